//! Where the broker is: `amqp[s]://USER@HOST:PORT/VHOST`, without a password.

use std::str::FromStr;

use lapin::uri::{AMQPScheme, AMQPUri};

/// The address of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AmqpUrl {
    /// Without a password.
    Broker(Box<AMQPUri>),
    /// With a password: refused at the start and not while it is parsed, because the parser of arguments prints what it
    /// refuses.
    WithPassword,
}

impl AmqpUrl {
    /// Where the broker is, for logs; no user.
    pub fn host(&self) -> String {
        match self {
            Self::Broker(uri) => format!("{}:{}", uri.authority.host, uri.authority.port),
            Self::WithPassword => String::new(),
        }
    }

    /// Whether what is sent can be read on a network: without TLS, to another machine.
    pub fn is_exposed(&self) -> bool {
        let is_local = |host: &str| ["localhost", "127.0.0.1", "::1", "[::1]"].contains(&host);
        matches!(self, Self::Broker(uri) if uri.scheme == AMQPScheme::AMQP && !is_local(&uri.authority.host))
    }
}

impl FromStr for AmqpUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = || "must be amqp://USER@HOST:PORT/VHOST or amqps://…, without a password".to_owned();
        // Before anything can be refused, and in all of the text: a password may hold any of /?#, and the scheme may be wrong.
        let behind_scheme = text.split_once("://").map_or(text, |(_, rest)| rest);
        if behind_scheme.rsplit_once('@').is_some_and(|(user, _)| user.contains(':')) {
            return Ok(Self::WithPassword);
        }
        let (scheme, rest) = text.split_once("://").ok_or_else(invalid)?;
        if !["amqp", "amqps"].contains(&scheme) {
            return Err(invalid());
        }
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.is_empty() || authority.ends_with('@') {
            return Err(invalid());
        }
        let uri: AMQPUri = text.parse().map_err(|_| invalid())?;
        Ok(Self::Broker(Box::new(uri)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_a_host_and_never_a_password() {
        let url: AmqpUrl = "amqps://relay@mq.example:5671/%2f".parse().unwrap();
        assert_eq!((url.host().as_str(), url.is_exposed()), ("mq.example:5671", false));
        let AmqpUrl::Broker(uri) = &url else { panic!("{url:?}") };
        assert_eq!((uri.authority.userinfo.username.as_str(), uri.vhost.as_str()), ("relay", "/"));
        for (url, is_exposed) in
            [("amqp://127.0.0.1:5672", false), ("amqp://localhost", false), ("amqp://mq.example", true)]
        {
            assert_eq!(url.parse::<AmqpUrl>().unwrap().is_exposed(), is_exposed, "{url}");
        }
        for with_password in [
            "amqp://relay:canary-not-real@mq.example/%2f",
            "amqps://relay:@mq.example",
            "amqp://relay:canary/not-real@mq.example",
            "amqp://relay:canary?not#real@mq.example",
            "ampq://relay:canary-not-real@mq.example",
            "relay:canary-not-real@mq.example:5672",
        ] {
            assert_eq!(with_password.parse(), Ok(AmqpUrl::WithPassword));
        }
        for bad in ["", "mq.example:5672", "http://mq.example", "amqp://", "amqp:///vhost", "amqp://relay@/x"] {
            let error = bad.parse::<AmqpUrl>().unwrap_err();
            assert!(error.starts_with("must be amqp://"), "{bad}: {error}");
        }
    }
}
