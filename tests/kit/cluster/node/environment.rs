//! The environment of a container, as the Pod declares it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvVarSource, Pod};
use kube::{Client, ResourceExt as _};

use super::sources::{Reference, entries};

/// Where a Pod runs.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) node: String,
    pub(super) ip: String,
    /// Host and port of the API server.
    pub(super) api_server: (String, String),
}

/// The variables of a container, in the order in which they are set.
pub(super) async fn environment(
    client: &Client,
    pod: &Pod,
    container: &Container,
    place: &Place,
) -> Result<BTreeMap<String, String>, String> {
    let mut all = BTreeMap::from([
        ("PATH".to_owned(), "/image:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
        ("HOSTNAME".to_owned(), pod.name_any()),
        ("KUBERNETES_SERVICE_HOST".to_owned(), place.api_server.0.clone()),
        ("KUBERNETES_SERVICE_PORT".to_owned(), place.api_server.1.clone()),
    ]);
    let namespace = pod.namespace().unwrap_or_default();
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.clone().unwrap_or_default();
        let secret = from.secret_ref.as_ref().map(|r| Reference::secret(&r.name, r.optional));
        let map = from.config_map_ref.as_ref().map(|r| Reference::config_map(&r.name, r.optional));
        let Some(reference) = secret.or(map) else { continue };
        let found = entries(client, &namespace, reference).await?.unwrap_or_default();
        all.extend(found.into_iter().map(|(key, value)| (format!("{prefix}{key}"), text(&value))));
    }
    for variable in container.env.iter().flatten() {
        let value = match &variable.value_from {
            None => Some(expand(variable.value.as_deref().unwrap_or_default(), &all)),
            Some(from) => referenced(client, pod, place, from).await?,
        };
        if let Some(value) = value {
            all.insert(variable.name.clone(), value);
        }
    }
    Ok(all)
}

/// The value that a variable refers to; `None` if it is absent and optional.
async fn referenced(client: &Client, pod: &Pod, place: &Place, from: &EnvVarSource) -> Result<Option<String>, String> {
    if let Some(field_ref) = &from.field_ref {
        return field(pod, place, &field_ref.field_path).map(Some);
    }
    let secret = from.secret_key_ref.as_ref().map(|r| (Reference::secret(&r.name, r.optional), &r.key));
    let map = from.config_map_key_ref.as_ref().map(|r| (Reference::config_map(&r.name, r.optional), &r.key));
    let Some((reference, key)) = secret.or(map) else {
        return Err("source of a variable not supported by the node agent".to_owned());
    };
    let found = entries(client, &pod.namespace().unwrap_or_default(), reference).await?;
    match found.unwrap_or_default().get(key) {
        None if !reference.optional => Err(format!("key {key} of {:?} {} not found", reference.source, reference.name)),
        value => Ok(value.map(|value| text(value))),
    }
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

/// A field of the Pod, as the downward API names it.
pub(super) fn field(pod: &Pod, place: &Place, path: &str) -> Result<String, String> {
    let key = |prefix: &str| path.strip_prefix(prefix).and_then(|rest| rest.strip_suffix("']"));
    if let Some(key) = key("metadata.labels['") {
        return Ok(pod.labels().get(key).cloned().unwrap_or_default());
    }
    if let Some(key) = key("metadata.annotations['") {
        return Ok(pod.annotations().get(key).cloned().unwrap_or_default());
    }
    let spec = pod.spec.as_ref();
    Ok(match path {
        "metadata.name" => pod.name_any(),
        "metadata.namespace" => pod.namespace().unwrap_or_default(),
        "metadata.uid" => pod.uid().unwrap_or_default(),
        "spec.nodeName" => place.node.clone(),
        "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_default(),
        "status.podIP" | "status.podIPs" => place.ip.clone(),
        "status.hostIP" | "status.hostIPs" => "127.0.0.1".to_owned(),
        _ => return Err(format!("field {path} not supported by the node agent")),
    })
}

/// Replaces `$(NAME)` by the value of a known variable; `$$` is an escaped `$`.
pub(super) fn expand(text: &str, variables: &BTreeMap<String, String>) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let name = rest.strip_prefix('(').and_then(|after| after.split_once(')'));
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((value, after)) = name.and_then(|(name, after)| Some((variables.get(name)?, after))) {
            out.push_str(value);
            rest = after;
        } else {
            out.push('$');
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_variables_are_expanded_and_escapes_are_not() {
        let variables = BTreeMap::from([("A".to_owned(), "1".to_owned()), ("B".to_owned(), "$(A)".to_owned())]);
        for (text, expected) in
            [("--id=$(A)_$(B)", "--id=1_$(A)"), ("$$(A) $(C) $(A", "$(A) $(C) $(A"), ("50$ $$ $", "50$ $ $"), ("", "")]
        {
            assert_eq!(expand(text, &variables), expected, "{text}");
        }
    }
}
