//! What no log may show, at whatever level, of whatever crate.

use std::io::Write;
use std::sync::{Arc, Mutex};

use busbar::provider::call::Request;
use busbar::provider::registry::RegistryOptions;
use busbar::settings::{Auth, Placement};
use busbar::testbed::sim::{BankConfig, Behaviour, Down, RequiredAuth};
use tracing_subscriber::fmt::MakeWriter;

use super::{get, once, registry, secret, token_bank};
use crate::call_path::{apply, bank};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// One thread, so that whatever is logged by whomever comes by here.
#[tokio::test]
async fn nothing_that_is_secret_is_logged_at_any_level_or_shown_in_metrics() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log.clone()).finish();
    let _here = tracing::subscriber::set_default(subscriber);
    tracing::trace!("it listens");

    let key = || "canary-in-query".to_owned();
    let wants = RequiredAuth::ApiKeyQuery { name: "apikey".to_owned(), value: key() };
    let (_sim, bank) = bank(BankConfig::new("bank").auth(wants)).await;
    let (registry, metrics) = registry(RegistryOptions::allowing_loopback());
    let mut draft = once(bank.base_url());
    draft.auth = Auth::ApiKey {
        placement: Placement::Query,
        name: "apikey".to_owned(),
        prefix: String::new(),
        key: secret(&key()),
    };
    let live = apply(&registry, draft.clone());
    let request = Request::get("test", "/v2/accounts").with_query("iban", "canary-iban");
    assert_eq!(live.call(request).await.unwrap().status, 200);
    for behaviour in [Behaviour::status(500), Behaviour::Down(Down::Close), Behaviour::Truncate { percent: 50 }] {
        bank.set_script(behaviour).await.unwrap();
        let end = live.call(Request::get("test", "/v2/accounts")).await;
        let printed = format!("{end:?} {:?} {live:?} {:?}", live.snapshot(), live.settings());
        assert!(!printed.contains("canary"), "{printed}");
    }
    bank.recover().await;

    let (_other, token_bank, with_token) = token_bank(3600).await;
    let tokened = registry.apply(
        &crate::call_path::key("tokened"),
        "uid-2",
        busbar::settings::Settings::resolve(with_token).unwrap(),
        None,
    );
    assert_eq!(get(&tokened, "/health").await, Ok(200));
    token_bank.set_script(Behaviour::status(401)).await.unwrap();
    assert_eq!(get(&tokened, "/health").await, Ok(401));

    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("it listens"));
    for (place, text) in [("the log", logged), ("the metrics", metrics.render().unwrap())] {
        for hidden in ["canary", "Y2FuYXJ5", "sim-"] {
            let found = text.lines().find(|line| line.contains(hidden) && !line.contains("busbar-sim"));
            assert!(found.is_none(), "{place}: {found:?}");
        }
    }
}
