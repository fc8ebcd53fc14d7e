//! The broker is verified, and the password is read again with each connection.

use std::path::Path;

use busbar::testbed::rabbitmq::RabbitBroker;
use busbar::work::outbox::broker::{Broker as _, BrokerError};
use busbar::work::outbox::{AmqpBroker, BrokerCredentials};

fn broker(url: &str, folder: &Path, ca: Option<&str>) -> AmqpBroker {
    let credentials =
        BrokerCredentials { password_file: Some(folder.join("password")), ca_file: ca.map(|name| folder.join(name)) };
    AmqpBroker::new(url.parse().unwrap(), credentials, "busbar-test")
}

async fn error(broker: &AmqpBroker) -> String {
    let error = broker.connect().await.err().expect("refused");
    assert!(matches!(error, BrokerError::Failed(_)), "{error}");
    error.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_is_verified_and_the_password_read_again_after_a_rotation() {
    let (server, folder) = (RabbitBroker::start().await.unwrap(), tempfile::tempdir().unwrap());
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("password"), "guest\n").unwrap();
    std::fs::write(path("ca.pem"), server.certificate()).unwrap();
    let url = |host: &str| server.tls_url(&format!("guest@{host}"));

    // Without its authority, and with it for another name.
    for (url, ca) in [(url("localhost"), None), (url("127.0.0.1"), Some("ca.pem"))] {
        let text = error(&broker(&url, folder.path(), ca)).await;
        assert!(text.contains("certificate"), "{url}: {text}");
    }
    let verified = broker(&url("localhost"), folder.path(), Some("ca.pem"));
    verified.connect().await.map(drop).unwrap();

    std::fs::write(path("password"), "canary-not-real").unwrap();
    let text = error(&verified).await;
    assert!(text.contains("ACCESS") && !text.contains("canary"), "{text}");
    std::fs::write(path("password"), "guest").unwrap();
    verified.connect().await.map(drop).unwrap();
    std::fs::remove_file(path("password")).unwrap();
    let missing = verified.connect().await.err().expect("no password").to_string();
    assert!(missing.starts_with("--amqp-password-file ") && missing.contains("cannot be read"), "{missing}");
}
