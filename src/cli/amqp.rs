//! Flags of the message broker that events are published to.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::parse::bounded;
use crate::work::outbox::{AmqpUrl, BrokerCredentials, QueueType, TopologyOptions};

/// Flags of the broker.
#[derive(Clone, Debug, Args)]
pub struct AmqpArgs {
    /// URL of the RabbitMQ broker that events are published to: `amqps://USER@HOST:PORT/VHOST`, or `amqp://…` without TLS;
    /// no password. Default: none; events are read over HTTP (`GET /api/events`).
    #[arg(long, env = "BUSBAR_AMQP", value_name = "URL", hide_env_values = true)]
    pub amqp: Option<AmqpUrl>,
    /// File with the password of the broker's user; read again with each connection. Default: `guest`, which a broker
    /// accepts from its own machine only.
    #[arg(long, env = "BUSBAR_AMQP_PASSWORD_FILE", value_name = "FILE", requires = "amqp")]
    pub amqp_password_file: Option<PathBuf>,
    /// File with the authorities, as PEM, that the broker's certificate is verified with, besides the public ones; read
    /// again with each connection.
    #[arg(long, env = "BUSBAR_AMQP_CA_FILE", value_name = "FILE", requires = "amqp")]
    pub amqp_ca_file: Option<PathBuf>,
    /// What the names of exchanges, queues and routing keys begin with.
    #[arg(long, env = "BUSBAR_EVENTS_DOMAIN", value_name = "NAME", default_value = "bank", value_parser = domain)]
    pub events_domain: String,
    /// How long a message may stay unread in a consumer's queue before it is moved to its dead-letter queue (1m to 720h).
    #[arg(long, env = "BUSBAR_AMQP_MESSAGE_TTL", default_value = "24h", value_parser = message_ttl)]
    pub amqp_message_ttl: Duration,
    /// Messages of a queue, at most; later events wait in the ledger.
    #[arg(long, env = "BUSBAR_AMQP_MAX_LENGTH", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub amqp_max_length: u32,
    /// Type of consumers' queues: `quorum` is replicated in a cluster.
    #[arg(long, env = "BUSBAR_AMQP_QUEUE_TYPE", value_enum, default_value_t = QueueType::Quorum)]
    pub amqp_queue_type: QueueType,
}

impl AmqpArgs {
    /// Where the credentials are.
    pub fn credentials(&self) -> BrokerCredentials {
        BrokerCredentials { password_file: self.amqp_password_file.clone(), ca_file: self.amqp_ca_file.clone() }
    }

    /// Names and limits of the queues.
    pub fn topology(&self) -> TopologyOptions {
        TopologyOptions {
            domain: self.events_domain.clone(),
            message_ttl: self.amqp_message_ttl,
            max_length: self.amqp_max_length,
            queue_type: self.amqp_queue_type,
        }
    }
}

/// Parses the retention of messages.
fn message_ttl(text: &str) -> Result<Duration, String> {
    bounded(text, Duration::from_mins(1), Duration::from_hours(720))
}

/// Parses the events' domain: one word of a routing key.
fn domain(text: &str) -> Result<String, String> {
    let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    if text.is_empty() || text.len() > 60 || !text.chars().all(is_allowed) {
        return Err("must be 1 to 60 characters of a-z, 0-9, - and _".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn parse(args: &[&str]) -> Result<AmqpArgs, String> {
        let all = [&["busbar", "run"], args].concat();
        match Cli::try_parse_from(all).map_err(|error| error.to_string())?.command {
            Command::Run(args) => Ok(args.amqp),
            _ => Err("another command".to_owned()),
        }
    }

    #[test]
    fn without_a_broker_nothing_is_published_and_the_limits_have_defaults() {
        let args = parse(&[]).unwrap();
        assert_eq!(args.amqp, None);
        let topology = args.topology();
        assert_eq!((topology.exchange().as_str(), topology.max_length), ("bank_events", 100_000));
        assert_eq!((topology.message_ttl, topology.queue_type), (Duration::from_hours(24), QueueType::Quorum));
    }

    #[test]
    fn a_url_with_a_password_is_kept_as_nothing() {
        // What the parser of arguments refuses it prints.
        let urls =
            ["amqp://relay:canary-not-real@mq.test/%2f", "amqp://relay:canary/?#@mq.test", "relay:canary@mq.test:5672"];
        for url in urls {
            let args = parse(&[&format!("--amqp={url}")]).unwrap();
            assert_eq!(args.amqp, Some(AmqpUrl::WithPassword));
            assert!(!format!("{args:?}").contains("canary"));
        }
        for (wrong, named) in [
            ("--amqp=redis://mq.test", "must be amqp://"),
            ("--events-domain=a.b", "characters of a-z"),
            ("--amqp-message-ttl=30s", "must be between 60s and 2592000s"),
            ("--amqp-max-length=0", "0"),
            ("--amqp-password-file=/p", "--amqp"),
        ] {
            let error = parse(&[wrong]).unwrap_err();
            assert!(error.contains(named), "{wrong}: {error}");
        }
    }
}
