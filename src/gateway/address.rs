//! Where the gateway listens, and what it must not do there.
//!
//! Tokens travel over this port, so plain HTTP and a missing authentication are for loopback only; anything else is
//! refused at start, with the remedy.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::net::TcpListener;

/// The port that people expect; any free one where it is taken.
const USUAL_PORT: u16 = 8080;

/// Where to listen.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum Place {
    /// On loopback, port 8080 if it is free, else any.
    #[default]
    Loopback,
    /// There.
    At(SocketAddr),
    /// Nowhere: no gateway.
    Off,
}

impl std::str::FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "loopback" => Ok(Self::Loopback),
            "off" => Ok(Self::Off),
            _ => {
                // `:8443` is every address of the machine, as people write it elsewhere.
                let text = text.strip_prefix(':').map_or_else(|| text.to_owned(), |port| format!("0.0.0.0:{port}"));
                text.parse().map(Self::At).map_err(|_| "must be ADDRESS:PORT, :PORT, loopback or off".to_owned())
            }
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Loopback => f.write_str("loopback"),
            Self::At(address) => address.fmt(f),
            Self::Off => f.write_str("off"),
        }
    }
}

/// A place that must not be listened at as asked.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PlaceError {
    /// Tokens would travel in the clear.
    #[error(
        "--gateway-address={0} is not loopback, and there is no certificate: give --gateway-tls-cert and --gateway-tls-key"
    )]
    Plain(SocketAddr),
    /// Everybody could call.
    #[error("--gateway-auth=off is for loopback only, and --gateway-address is {0}")]
    Open(SocketAddr),
}

impl Place {
    /// Fails if this place needs what is missing.
    pub fn check(self, tls: bool, authenticates: bool) -> Result<(), PlaceError> {
        match self {
            Self::At(address) if !address.ip().is_loopback() => {
                if !authenticates {
                    return Err(PlaceError::Open(address));
                }
                if !tls {
                    return Err(PlaceError::Plain(address));
                }
                Ok(())
            }
            Self::At(_) | Self::Loopback | Self::Off => Ok(()),
        }
    }

    /// Binds; `None` if there is to be no gateway.
    pub async fn bind(self) -> std::io::Result<Option<TcpListener>> {
        let loopback = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        match self {
            Self::Off => Ok(None),
            Self::At(address) => TcpListener::bind(address).await.map(Some),
            Self::Loopback => match TcpListener::bind(loopback(USUAL_PORT)).await {
                Ok(listener) => Ok(Some(listener)),
                Err(_) => TcpListener::bind(loopback(0)).await.map(Some),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_or_open_it_listens_on_loopback_only() {
        let at = |text: &str| text.parse::<Place>().unwrap();
        for place in [at("127.0.0.1:0"), at("[::1]:9"), at("loopback"), at("off")] {
            assert_eq!(place.check(false, false), Ok(()), "{place:?}");
        }
        let world = at(":8443");
        assert_eq!(world, at("0.0.0.0:8443"));
        assert_eq!(world.check(true, true), Ok(()));
        let plain = world.check(false, true).unwrap_err().to_string();
        assert!(plain.contains("--gateway-tls-cert"), "{plain}");
        assert!(matches!(world.check(true, false), Err(PlaceError::Open(_))));
        assert!("host:1".parse::<Place>().is_err());
    }
}
