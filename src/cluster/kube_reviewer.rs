//! Reviews of tokens and of access by the API server.

use futures::future::BoxFuture;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};

use crate::cluster::auth::{AccessRequest, Reviewer, UserInfo};
use crate::cluster::{ApiError, call};

/// Reviews by the API server.
pub struct KubeReviewer {
    client: Client,
    audiences: Vec<String>,
}

impl KubeReviewer {
    /// A reviewer that uses `client`. Tokens must be for one of `audiences`; empty: for the API server itself.
    pub fn new(client: Client, audiences: Vec<String>) -> Self {
        Self { client, audiences }
    }

    async fn review(&self, spec: SubjectAccessReviewSpec) -> Result<bool, ApiError> {
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let status = call(api.create(&PostParams::default(), &review)).await?.status;
        Ok(status.is_some_and(|status| status.allowed && status.denied != Some(true)))
    }
}

impl Reviewer for KubeReviewer {
    fn review_token<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<UserInfo>, ApiError>> {
        Box::pin(async move {
            let audiences = (!self.audiences.is_empty()).then(|| self.audiences.clone());
            let review = TokenReview {
                spec: TokenReviewSpec { token: Some(token.to_owned()), audiences },
                ..TokenReview::default()
            };
            let api: Api<TokenReview> = Api::all(self.client.clone());
            let status = call(api.create(&PostParams::default(), &review)).await?.status.unwrap_or_default();
            // An authenticator without audience support returns none: then the token is for the API server itself.
            let for_us = self.audiences.is_empty()
                || status.audiences.unwrap_or_default().iter().any(|audience| self.audiences.contains(audience));
            let user = status.user.filter(|_| status.authenticated == Some(true) && for_us);
            Ok(user.and_then(|user| {
                let name = user.username.filter(|name| !name.is_empty())?;
                Some(UserInfo::new(name, user.uid, user.groups.unwrap_or_default(), user.extra.unwrap_or_default()))
            }))
        })
    }

    fn review_access<'a>(
        &'a self,
        user: &'a UserInfo,
        request: &'a AccessRequest,
    ) -> BoxFuture<'a, Result<bool, ApiError>> {
        Box::pin(async move {
            let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            let attributes = ResourceAttributes {
                group: Some("busbar.dev".to_owned()),
                verb: Some(request.verb.to_owned()),
                resource: Some(request.resource.to_owned()),
                subresource: some(request.subresource),
                namespace: some(&request.namespace),
                name: some(&request.name),
                ..ResourceAttributes::default()
            };
            self.review(SubjectAccessReviewSpec { resource_attributes: Some(attributes), ..subject(user) }).await
        })
    }

    fn review_path<'a>(&'a self, user: &'a UserInfo, path: &'static str) -> BoxFuture<'a, Result<bool, ApiError>> {
        Box::pin(async move {
            let attributes = NonResourceAttributes { path: Some(path.to_owned()), verb: Some("get".to_owned()) };
            self.review(SubjectAccessReviewSpec { non_resource_attributes: Some(attributes), ..subject(user) }).await
        })
    }
}

/// A review of `user`, without the access.
fn subject(user: &UserInfo) -> SubjectAccessReviewSpec {
    SubjectAccessReviewSpec {
        user: Some(user.user.clone()),
        uid: user.uid.clone(),
        groups: Some(user.groups.clone()),
        extra: Some(user.extra.clone()),
        ..SubjectAccessReviewSpec::default()
    }
}
