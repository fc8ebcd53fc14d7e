//! Which questions share an answer, and what they are told.

use std::sync::Arc;

use http::{Request, Response};
use kube::client::Body;
use kube::runtime::reflector;
use kube::runtime::watcher::Event;

use super::*;
use crate::api::v1alpha1::BreakerPolicy;

/// An API server with one object, which answers when it is told to.
#[derive(Default)]
struct Server {
    requests: Vec<String>,
    generation: i64,
    version: u64,
}

struct Fixture {
    server: Arc<Mutex<Server>>,
    answers: Arc<tokio::sync::Semaphore>,
    check: ObjectCheck<BreakerPolicy>,
    writer: reflector::store::Writer<BreakerPolicy>,
    store: KindStore<BreakerPolicy>,
}

fn object(generation: i64) -> BreakerPolicy {
    let mut object = BreakerPolicy::new("p", serde_json::from_str("{}").unwrap());
    object.metadata.namespace = Some("ns".into());
    object.metadata.generation = Some(generation);
    object
}

impl Fixture {
    fn new() -> Self {
        let server = Arc::new(Mutex::new(Server { generation: 1, version: 10, ..Server::default() }));
        let answers = Arc::new(tokio::sync::Semaphore::new(0));
        let (shared, permits) = (Arc::clone(&server), Arc::clone(&answers));
        let service = tower::service_fn(move |request: Request<Body>| {
            let (shared, permits) = (Arc::clone(&shared), Arc::clone(&permits));
            async move {
                permits.acquire().await.unwrap().forget();
                let mut told = shared.lock().unwrap();
                told.requests.push(request.uri().to_string());
                let Server { generation, version, .. } = *told;
                let item = format!(r#"{{"metadata": {{"name": "p", "namespace": "ns", "generation": {generation}}}}}"#);
                let body = format!(r#"{{"metadata": {{"resourceVersion": "{version}"}}, "items": [{item}]}}"#);
                Ok::<_, std::io::Error>(Response::new(Body::from(body.into_bytes())))
            }
        });
        let (reader, mut writer) = reflector::store();
        writer.apply_watcher_event(&Event::Apply(object(1)));
        let store = KindStore::from_store(reader);
        let check = ObjectCheck::new(Client::new(service, "ns"), Clock::system());
        Self { server, answers, check, writer, store }
    }

    async fn is_current(&self) -> bool {
        let key = ObjectKey::new("ns", "p");
        self.check.is_current(&self.store, &key, |meta| meta.generation == Some(1)).await.unwrap()
    }

    fn requests(&self) -> usize {
        self.server.lock().unwrap().requests.len()
    }

    fn watched(&self) -> &WatchedVersion {
        self.store.watched_version("ns").unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn one_request_answers_all_that_asked_before_it_once_the_watch_is_as_far() {
    let fixture = Fixture::new();
    let answers = Arc::clone(&fixture.answers);
    let told = async {
        tokio::task::yield_now().await;
        answers.add_permits(2);
        tokio::task::yield_now().await;
        fixture.watched().advance(10);
    };
    let all = futures::future::join_all((0..20).map(|_| fixture.is_current()));
    let (all, ()) = tokio::join!(all, told);
    assert_eq!((all, fixture.requests()), (vec![true; 20], 2), "the first asked before the others did");
    let selected = fixture.server.lock().unwrap().requests[0].clone();
    assert!(
        selected.contains("fieldSelector=metadata.name%3Dp") && !selected.contains("resourceVersion"),
        "{selected}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_object_that_changed_meanwhile_is_not_current_whoever_asked() {
    let mut fixture = Fixture::new();
    {
        let mut server = fixture.server.lock().unwrap();
        (server.generation, server.version) = (2, 11);
    }
    fixture.answers.add_permits(100);
    let all = futures::future::join_all((0..5).map(|_| fixture.is_current())).await;
    assert_eq!(all, vec![false; 5], "the watch is silent: each asks for itself");
    assert_eq!(fixture.requests(), 5);
    let requests = fixture.requests();
    fixture.writer.apply_watcher_event(&Event::Apply(object(2)));
    assert!(!fixture.is_current().await, "the store knows it");
    assert_eq!(fixture.requests(), requests);
}

#[tokio::test(start_paused = true)]
async fn an_answer_from_before_the_question_does_not_count() {
    let fixture = Fixture::new();
    fixture.answers.add_permits(100);
    fixture.watched().advance(10);
    for asked in 1..=3 {
        assert!(fixture.is_current().await);
        assert_eq!(fixture.requests(), asked);
    }
}
