//! RabbitMQ, through `lapin`. `AmqpPublisher` publishes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use lapin::options::{
    ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::protocol::constants::REPLY_SUCCESS;
use lapin::tcp::OwnedTLSConfig;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Connection, ConnectionProperties, ExchangeKind};

use super::amqp_publisher::AmqpPublisher;
use super::amqp_refusal::{PRECONDITION_FAILED, refusal};
use super::broker::{
    Argument, Broker, BrokerError, BrokerFuture, BrokerSession, Declaration, Mismatch, Publisher, QueueDepth,
};
use super::url::AmqpUrl;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the broker may take to answer anything but a publish.
const RPC_TIMEOUT: Duration = Duration::from_secs(10);
/// Interval of heartbeats, in seconds; a connection without two of them is lost.
const HEARTBEAT: u16 = 10;

/// Where the credentials are. Both files are read again with each connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BrokerCredentials {
    /// The password of the URL's user; `None`: `guest`, which brokers accept from their own machine only.
    pub password_file: Option<PathBuf>,
    /// The authorities that the broker's certificate is verified with, as PEM, besides the public ones.
    pub ca_file: Option<PathBuf>,
}

/// A RabbitMQ broker.
#[derive(Debug)]
pub struct AmqpBroker {
    url: AmqpUrl,
    credentials: BrokerCredentials,
    connection_name: String,
}

impl AmqpBroker {
    /// The broker at `url`. `connection_name` is what it shows of the connections.
    pub fn new(url: AmqpUrl, credentials: BrokerCredentials, connection_name: &str) -> Self {
        Self { url, credentials, connection_name: connection_name.to_owned() }
    }

    /// Opens a connection.
    pub(super) async fn open(&self) -> Result<Connection, BrokerError> {
        let AmqpUrl::Broker(uri) = &self.url else {
            return Err(BrokerError::Failed("the URL of the broker has a password".to_owned()));
        };
        let mut uri = (**uri).clone();
        if let Some(file) = &self.credentials.password_file {
            let password = read("--amqp-password-file", file).await?;
            password.trim_end_matches(['\r', '\n']).clone_into(&mut uri.authority.userinfo.password);
        }
        uri.query.heartbeat = uri.query.heartbeat.or(Some(HEARTBEAT));
        let cert_chain = match &self.credentials.ca_file {
            Some(file) => Some(read("--amqp-ca-file", file).await?),
            None => None,
        };
        let tls = OwnedTLSConfig { identity: None, cert_chain };
        let properties = ConnectionProperties::default().with_connection_name(self.connection_name.as_str().into());
        let runtime = lapin::runtime::default_runtime().map_err(failed)?;
        let connecting = Connection::connect_uri_with_config(uri, properties, tls, runtime);
        within(CONNECT_TIMEOUT, connecting).await
    }
}

impl Broker for AmqpBroker {
    fn connect(&self) -> BrokerFuture<'_, Arc<dyn BrokerSession>> {
        Box::pin(async move {
            let connection = self.open().await?;
            Ok(Arc::new(AmqpSession { connection }) as Arc<dyn BrokerSession>)
        })
    }
}

async fn read(flag: &str, file: &Path) -> Result<String, BrokerError> {
    tokio::fs::read_to_string(file).await.map_err(|error| BrokerError::File {
        file: format!("{flag} {}", file.display()),
        cause: error.kind().to_string(),
    })
}

/// Waits for an exchange with the broker.
pub(super) async fn within<T>(
    limit: Duration,
    exchange: impl Future<Output = Result<T, lapin::Error>>,
) -> Result<T, BrokerError> {
    match tokio::time::timeout(limit, exchange).await {
        Ok(done) => done.map_err(failed),
        Err(_) => Err(BrokerError::TimedOut { seconds: limit.as_secs() }),
    }
}

/// The same with the usual limit.
pub(super) async fn rpc<T>(exchange: impl Future<Output = Result<T, lapin::Error>>) -> Result<T, BrokerError> {
    within(RPC_TIMEOUT, exchange).await
}

fn failed(error: impl std::fmt::Display) -> BrokerError {
    BrokerError::Failed(error.to_string())
}

/// A name or key. Longer ones than the protocol allows cannot be sent.
pub(super) fn short(text: &str) -> Result<ShortString, BrokerError> {
    ShortString::try_new(text).map_err(|error| BrokerError::Failed(error.to_string()))
}

struct AmqpSession {
    connection: Connection,
}

impl AmqpSession {
    async fn channel(&self) -> Result<Channel, BrokerError> {
        rpc(self.connection.create_channel()).await
    }

    async fn declare_all(&self, declarations: &[Declaration]) -> Result<Vec<Mismatch>, BrokerError> {
        let (mut channel, mut mismatches) = (self.channel().await?, Vec::new());
        for declaration in declarations {
            let done = tokio::time::timeout(RPC_TIMEOUT, declare(&channel, declaration)).await;
            let Ok(done) = done else { return Err(BrokerError::TimedOut { seconds: RPC_TIMEOUT.as_secs() }) };
            let Err(error) = done else { continue };
            let Some((_, cause)) = refusal(&error) else { return Err(failed(error)) };
            mismatches.push(Mismatch { subject: subject(declaration), cause });
            // The refusal has closed the channel.
            channel = self.channel().await?;
        }
        // One that cannot be closed goes with the connection.
        drop(rpc(channel.close(REPLY_SUCCESS, "OK".into())).await);
        Ok(mismatches)
    }
}

fn subject(declaration: &Declaration) -> String {
    match declaration {
        Declaration::Exchange { name, .. } => format!("exchange {name}"),
        Declaration::Queue { name, .. } => format!("queue {name}"),
        Declaration::Binding { queue, .. } => format!("binding of queue {queue}"),
    }
}

fn name(text: &str) -> Result<ShortString, lapin::Error> {
    ShortString::try_new(text).map_err(|error| std::io::Error::other(error.to_string()).into())
}

async fn declare(channel: &Channel, declaration: &Declaration) -> Result<(), lapin::Error> {
    match declaration {
        Declaration::Exchange { name: exchange, is_topic } => {
            let kind = if *is_topic { ExchangeKind::Topic } else { ExchangeKind::Direct };
            let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
            channel.exchange_declare(name(exchange)?, kind, options, FieldTable::default()).await
        }
        Declaration::Queue { name: queue, arguments } => {
            let mut table = BTreeMap::new();
            for (argument, value) in arguments {
                let value = match value {
                    Argument::Number(number) => AMQPValue::LongLongInt(*number),
                    Argument::Text(text) => AMQPValue::LongString(text.as_str().into()),
                };
                table.insert(name(argument)?, value);
            }
            let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
            channel.queue_declare(name(queue)?, options, FieldTable::from(table)).await.map(drop)
        }
        Declaration::Binding { queue, exchange, key } => {
            let (queue, exchange, key) = (name(queue)?, name(exchange)?, name(key)?);
            channel.queue_bind(queue, exchange, key, QueueBindOptions::default(), FieldTable::default()).await
        }
    }
}

impl BrokerSession for AmqpSession {
    fn declare<'a>(&'a self, declarations: &'a [Declaration]) -> BrokerFuture<'a, Vec<Mismatch>> {
        Box::pin(self.declare_all(declarations))
    }

    fn depth<'a>(&'a self, queue: &'a str) -> BrokerFuture<'a, Option<QueueDepth>> {
        Box::pin(async move {
            let (channel, queue) = (self.channel().await?, short(queue)?);
            let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            let asked = tokio::time::timeout(RPC_TIMEOUT, channel.queue_declare(queue, options, FieldTable::default()));
            let Ok(found) = asked.await else { return Err(BrokerError::TimedOut { seconds: RPC_TIMEOUT.as_secs() }) };
            let depth = match found {
                Ok(found) => QueueDepth { messages: found.message_count(), consumers: found.consumer_count() },
                // Not found, or not ours to look at.
                Err(error) => match refusal(&error) {
                    Some((code, _)) if code != PRECONDITION_FAILED => return Ok(None),
                    _ => return Err(failed(error)),
                },
            };
            drop(rpc(channel.close(REPLY_SUCCESS, "OK".into())).await);
            Ok(Some(depth))
        })
    }

    fn delete_queue<'a>(&'a self, queue: &'a str) -> BrokerFuture<'a, ()> {
        Box::pin(async move {
            let channel = self.channel().await?;
            let deleting = channel.queue_delete(short(queue)?, QueueDeleteOptions::default());
            let Ok(deleted) = tokio::time::timeout(RPC_TIMEOUT, deleting).await else {
                return Err(BrokerError::TimedOut { seconds: RPC_TIMEOUT.as_secs() });
            };
            if let Err(error) = deleted {
                return Err(match refusal(&error) {
                    Some((_, cause)) => BrokerError::Refused(cause),
                    None => failed(error),
                });
            }
            drop(rpc(channel.close(REPLY_SUCCESS, "OK".into())).await);
            Ok(())
        })
    }

    fn publisher<'a>(&'a self, exchange: &'a str) -> BrokerFuture<'a, Box<dyn Publisher>> {
        Box::pin(async move {
            let channel = self.channel().await?;
            rpc(channel.confirm_select(ConfirmSelectOptions::default())).await?;
            let status = self.connection.status().clone();
            Ok(Box::new(AmqpPublisher::new(channel, short(exchange)?, status)) as Box<dyn Publisher>)
        })
    }

    fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    fn is_open(&self) -> bool {
        self.connection.status().connected()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move { drop(rpc(self.connection.close(REPLY_SUCCESS, "OK".into())).await) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_that_cannot_be_read_is_named_without_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let credentials = BrokerCredentials { password_file: Some(folder.path().join("password")), ca_file: None };
        let broker = AmqpBroker::new("amqp://relay@127.0.0.1:1".parse().unwrap(), credentials, "busbar");
        let error = broker.open().await.err().unwrap().to_string();
        assert!(
            error.starts_with("--amqp-password-file ") && error.ends_with("cannot be read: entity not found"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_broker_that_does_not_listen_is_an_error() {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let url = format!("amqp://127.0.0.1:{port}").parse().unwrap();
        let broker = AmqpBroker::new(url, BrokerCredentials::default(), "busbar");
        assert!(matches!(broker.open().await, Err(BrokerError::Failed(_))));
    }
}
