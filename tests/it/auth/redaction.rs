//! What no log may show, at whatever level, of whatever crate; and what no caller gets of a response.

use busbar::domain::breaker::OnUnhealthy;
use busbar::provider::call::Request;
use busbar::settings::{Auth, Placement};
use busbar::testbed::sim::{BankConfig, Behaviour, Down, RequiredAuth};

use crate::kit::banks::start_bank;
use crate::kit::connections::{apply, apply_as, draft, get, registry, secret, token_bank};
use crate::kit::logs::LogCapture;

/// On one thread, so that everything that is logged is captured.
#[tokio::test]
async fn no_secret_is_logged_at_any_level_or_shown_in_metrics() {
    let (log, _guard) = LogCapture::start();
    tracing::trace!("the capture works");

    let key = || "canary-in-query".to_owned();
    let required = RequiredAuth::ApiKeyQuery { name: "apikey".to_owned(), value: key() };
    let (_sim, bank) = start_bank(BankConfig::new("bank").auth(required)).await;
    let (registry, metrics) = registry();
    let mut draft = draft(bank.base_url());
    draft.auth = Auth::ApiKey {
        placement: Placement::Query,
        name: "apikey".to_owned(),
        prefix: String::new(),
        key: secret(&key()),
    };
    let connection = apply(&registry, draft.clone());
    let request = Request::get("test", "/v2/accounts").with_query("iban", "canary-iban");
    assert_eq!(connection.call(request).await.unwrap().status, 200);
    for behaviour in [Behaviour::status(500), Behaviour::Down(Down::Close), Behaviour::Truncate { percent: 50 }] {
        bank.set_script(behaviour).await.unwrap();
        let end = connection.call(Request::get("test", "/v2/accounts")).await;
        let printed = format!("{end:?} {:?} {connection:?} {:?}", connection.snapshot(), connection.settings());
        assert!(!printed.contains("canary"), "{printed}");
    }
    bank.recover().await;

    let (_other, token_bank, with_token) = token_bank(3600).await;
    let tokened = apply_as(&registry, "tokened", with_token);
    assert_eq!(get(&tokened, "/health").await, Ok(200));
    token_bank.set_script(Behaviour::status(401)).await.unwrap();
    assert_eq!(get(&tokened, "/health").await, Ok(401));

    let logged = log.text();
    assert!(logged.contains("the capture works"));
    for (place, text) in [("the log", logged), ("the metrics", metrics.render().unwrap())] {
        for hidden in ["canary", "Y2FuYXJ5", "sim-"] {
            let found = text.lines().find(|line| line.contains(hidden) && !line.contains("busbar-sim"));
            assert!(found.is_none(), "{place}: {found:?}");
        }
    }
}

#[tokio::test]
async fn an_echoed_key_reaches_no_caller_however_it_is_escaped() {
    let key = || "canary+in/query=1".to_owned();
    let required = RequiredAuth::ApiKeyQuery { name: "apikey".to_owned(), value: key() };
    let (_sim, bank) = start_bank(BankConfig::new("bank").auth(required)).await;
    let mut draft = draft(bank.base_url());
    draft.auth = Auth::ApiKey {
        placement: Placement::Query,
        name: "apikey".to_owned(),
        prefix: String::new(),
        key: secret(&key()),
    };
    draft.breaker.unhealthy = OnUnhealthy::Ignore;
    let (registry, _metrics) = registry();
    let connection = apply(&registry, draft);
    for echoed in [
        "canary+in/query=1",
        r"canary+in\/query=1",
        r"canary\u002bin\u002Fquery\u003d1",
        r"canary\\u002bin\\/query=1",
        "canary%2Bin%2Fquery%3D1",
        "canary%2bin%2fquery%3d1",
        "canary%252Bin%252fquery%253D1",
        "canary&#43;in&#x2f;query&equals;1",
        "63616e6172792b696e2f71756572793d31",
        "63616E6172792B696E2F71756572793D31",
        "Y2FuYXJ5K2luL3F1ZXJ5PTE=",
    ] {
        for code in [200, 400, 503] {
            let link = format!("/next?apikey={echoed}");
            let headers = [("link".to_owned(), link.clone())].into();
            let body = Some(format!(r#"{{"next":"{link}"}}"#));
            bank.set_script(Behaviour::Status { code, headers, body }).await.unwrap();
            let response = connection.call(Request::get("test", "/v2/accounts")).await.unwrap();
            let body = String::from_utf8(response.body.to_vec()).unwrap();
            let shown = [response.headers["link"].to_str().unwrap(), body.trim_matches(['{', '}'])];
            let expected = ["/next?apikey=***", r#""next":"/next?apikey=***""#];
            assert_eq!(shown.map(|text| text.replace("***=", "***")), expected, "{echoed}");
        }
    }
}
