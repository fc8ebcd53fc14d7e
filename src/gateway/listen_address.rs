//! The gateway's listen address, and the checks on it.
//!
//! Bearer tokens are sent to this port, so plain HTTP and disabled authentication are allowed on loopback only;
//! anything else is rejected at start, with the remedy.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::net::TcpListener;

/// The default port on loopback; any free port if it is taken.
const DEFAULT_PORT: u16 = 8080;

/// The address to listen on.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum ListenAddress {
    /// Loopback, port 8080 if it is free, else any free port.
    #[default]
    Loopback,
    /// This address.
    At(SocketAddr),
    /// No gateway.
    Off,
}

impl std::str::FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "loopback" => Ok(Self::Loopback),
            "off" => Ok(Self::Off),
            _ => {
                // `:8443` means all IPv4 addresses of the machine, as in Go.
                let text = text.strip_prefix(':').map_or_else(|| text.to_owned(), |port| format!("0.0.0.0:{port}"));
                text.parse().map(Self::At).map_err(|_| "must be ADDRESS:PORT, :PORT, loopback or off".to_owned())
            }
        }
    }
}

impl std::fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Loopback => f.write_str("loopback"),
            Self::At(address) => address.fmt(f),
            Self::Off => f.write_str("off"),
        }
    }
}

/// A listen address that is not allowed with the other settings.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ListenAddressError {
    /// Tokens would be sent unencrypted.
    #[error(
        "--gateway-address={0} is not loopback and no certificate is set; set --gateway-tls-cert and --gateway-tls-key"
    )]
    Plain(SocketAddr),
    /// Any client could call without authentication.
    #[error(
        "--gateway-auth=off is allowed on loopback only, but --gateway-address is {0}; set --gateway-auth=kubernetes"
    )]
    Open(SocketAddr),
}

impl ListenAddress {
    /// Fails if this address requires TLS or authentication and it is missing.
    pub fn check(self, tls: bool, authenticates: bool) -> Result<(), ListenAddressError> {
        match self {
            Self::At(address) if !address.ip().is_loopback() => {
                if !authenticates {
                    return Err(ListenAddressError::Open(address));
                }
                if !tls {
                    return Err(ListenAddressError::Plain(address));
                }
                Ok(())
            }
            Self::At(_) | Self::Loopback | Self::Off => Ok(()),
        }
    }

    /// Binds the port; `None` if the gateway is off.
    pub async fn bind(self) -> std::io::Result<Option<TcpListener>> {
        let loopback = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        match self {
            Self::Off => Ok(None),
            Self::At(address) => TcpListener::bind(address).await.map(Some),
            Self::Loopback => match TcpListener::bind(loopback(DEFAULT_PORT)).await {
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
    fn plain_http_or_no_authentication_is_allowed_on_loopback_only() {
        let at = |text: &str| text.parse::<ListenAddress>().unwrap();
        for address in [at("127.0.0.1:0"), at("[::1]:9"), at("loopback"), at("off")] {
            assert_eq!(address.check(false, false), Ok(()), "{address:?}");
        }
        let wildcard = at(":8443");
        assert_eq!(wildcard, at("0.0.0.0:8443"));
        assert_eq!(wildcard.check(true, true), Ok(()));
        let plain = wildcard.check(false, true).unwrap_err().to_string();
        assert!(plain.contains("--gateway-tls-cert"), "{plain}");
        assert!(matches!(wildcard.check(true, false), Err(ListenAddressError::Open(_))));
        assert!("host:1".parse::<ListenAddress>().is_err());
    }
}
