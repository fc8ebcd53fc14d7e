//! The URL of a ledger on a PostgreSQL server: `postgres://USER@HOST:PORT/DATABASE?sslmode=…`, as libpq writes it.
//!
//! A password is never part of it: arguments and environments are shown in process lists, manifests and logs. It is
//! read from a file, again with each connection, so that it is rotated without a restart (docs/adr/0020).

use std::fmt;
use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;
use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::domain::write_fault::WriteFault;
use crate::ledger::error::ServerFailure;

const DEFAULT_PORT: u16 = 5432;
/// Connections of one process: of the server's 100, as shipped, several replicas have enough.
const DEFAULT_CONNECTIONS: usize = 16;
/// More than any setting of Busbar's concurrency needs.
const MAX_CONNECTIONS: usize = 200;
/// Statements that a connection keeps prepared: more than the ledger has.
const STATEMENT_CACHE: usize = 200;
const FORM: &str = "must be postgres://USER@HOST:PORT/DATABASE";

/// Where the server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Tcp(String),
    /// The folder of the server's socket.
    Socket(PathBuf),
}

/// How the connection is secured, as libpq's `sslmode`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum SslMode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl SslMode {
    const ALL: [(&'static str, Self); 5] = [
        ("disable", Self::Disable),
        ("prefer", Self::Prefer),
        ("require", Self::Require),
        ("verify-ca", Self::VerifyCa),
        ("verify-full", Self::VerifyFull),
    ];
}

/// A server, a database and a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresUrl {
    host: Host,
    port: u16,
    user: String,
    database: String,
    ssl_mode: SslMode,
    root_cert: Option<PathBuf>,
    client_cert: Option<PathBuf>,
    client_key: Option<PathBuf>,
    application_name: String,
    max_connections: usize,
    password_file: Option<PathBuf>,
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Tcp(host) if host.contains(':') => write!(f, "postgres://[{host}]:{}/{}", self.port, self.database),
            Host::Tcp(host) => write!(f, "postgres://{host}:{}/{}", self.port, self.database),
            Host::Socket(folder) => write!(f, "postgres://{}:{}/{}", folder.display(), self.port, self.database),
        }
    }
}

/// Whether a URL of any scheme has a password.
pub(crate) fn has_password(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (location, query) = rest.split_once('?').unwrap_or((rest, ""));
    // The last `@`: a password may contain what should have been escaped.
    let user_info = location.rsplit_once('@').map(|(user_info, _)| user_info);
    user_info.is_some_and(|user_info| user_info.contains(':'))
        || query.split('&').any(|pair| pair.split('=').next().is_some_and(|name| name.eq_ignore_ascii_case("password")))
}

impl PostgresUrl {
    /// Parses what follows `postgres://`. Errors name the part, never its value if that may be a secret.
    pub(crate) fn parse(rest: &str) -> Result<Self, String> {
        let (location, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = location.split_once('/').unwrap_or((location, ""));
        let (user, address) = authority.rsplit_once('@').unwrap_or(("", authority));
        if user.is_empty() {
            return Err(format!("user is missing: {FORM}"));
        }
        if database.is_empty() {
            return Err(format!("database is missing: {FORM}"));
        }
        let (host, port) = host_and_port(address)?;
        let mut url = Self {
            host: Host::Tcp(host),
            port,
            user: decoded("user", user)?,
            database: decoded("database", database)?,
            ssl_mode: SslMode::VerifyFull,
            root_cert: None,
            client_cert: None,
            client_key: None,
            application_name: "busbar".to_owned(),
            max_connections: DEFAULT_CONNECTIONS,
            password_file: None,
        };
        let mut ssl_mode = None;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decoded(name, value)?;
            match name {
                "sslmode" => ssl_mode = Some(parsed_ssl_mode(&value)?),
                "sslrootcert" => url.root_cert = Some(value.into()),
                "sslcert" => url.client_cert = Some(value.into()),
                "sslkey" => url.client_key = Some(value.into()),
                "password_file" => url.password_file = Some(value.into()),
                "application_name" => url.application_name = value,
                "max_connections" => url.max_connections = parsed_connections(&value)?,
                "host" if value.starts_with('/') => url.host = Host::Socket(value.into()),
                "host" => url.host = Host::Tcp(value),
                "port" => url.port = value.parse().map_err(|_| "port must be a number from 1 to 65535".to_owned())?,
                _ => {
                    return Err(format!(
                        "parameter {name} is unknown; known are sslmode, sslrootcert, sslcert, sslkey, \
                         password_file, application_name, max_connections, host, port"
                    ));
                }
            }
        }
        if url.client_cert.is_some() != url.client_key.is_some() {
            return Err("sslcert and sslkey must be set together".to_owned());
        }
        if let Host::Tcp(host) = &url.host
            && host.starts_with('/')
        {
            url.host = Host::Socket(host.into());
        }
        if matches!(&url.host, Host::Tcp(host) if host.is_empty()) {
            return Err(format!("host is missing: {FORM}"));
        }
        url.ssl_mode = ssl_mode.unwrap_or_else(|| url.default_ssl_mode());
        Ok(url)
    }

    /// The same with the password's file.
    #[must_use]
    pub(crate) fn with_password_file(mut self, file: &Path) -> Self {
        self.password_file = Some(file.to_owned());
        self
    }

    /// Connections of the pool.
    pub(super) const fn max_connections(&self) -> usize {
        self.max_connections
    }

    /// Whether what is sent can be read or changed on the way: no verified TLS, and not this machine.
    pub(super) fn is_unprotected(&self) -> bool {
        !self.is_local() && !matches!(self.ssl_mode, SslMode::VerifyCa | SslMode::VerifyFull)
    }

    fn is_local(&self) -> bool {
        match &self.host {
            Host::Socket(_) => true,
            Host::Tcp(host) => {
                host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
            }
        }
    }

    fn default_ssl_mode(&self) -> SslMode {
        match &self.host {
            Host::Socket(_) => SslMode::Disable,
            Host::Tcp(_) if self.is_local() => SslMode::Prefer,
            Host::Tcp(_) => SslMode::VerifyFull,
        }
    }

    /// The driver's options, with the password as it is now.
    pub(super) async fn connect_options(&self) -> Result<PgConnectOptions, ServerFailure> {
        // `PGPASSWORD` and the like are read from the environment; all else is set here.
        let mut options = PgConnectOptions::new_without_pgpass()
            .port(self.port)
            .username(&self.user)
            .database(&self.database)
            .application_name(&self.application_name)
            .statement_cache_capacity(STATEMENT_CACHE)
            .ssl_mode(match self.ssl_mode {
                SslMode::Disable => PgSslMode::Disable,
                SslMode::Prefer => PgSslMode::Prefer,
                SslMode::Require => PgSslMode::Require,
                SslMode::VerifyCa => PgSslMode::VerifyCa,
                SslMode::VerifyFull => PgSslMode::VerifyFull,
            })
            .disable_statement_logging();
        options = match &self.host {
            Host::Tcp(host) => options.host(host),
            Host::Socket(folder) => options.socket(folder),
        };
        if let Some(file) = &self.root_cert {
            options = options.ssl_root_cert(file);
        }
        if let (Some(cert), Some(key)) = (&self.client_cert, &self.client_key) {
            options = options.ssl_client_cert(cert).ssl_client_key(key);
        }
        if let Some(file) = &self.password_file {
            let password = tokio::fs::read_to_string(file).await.map_err(|error| unreadable(file, &error))?;
            // Editors and `echo` end a file with a line break; a password with one cannot be meant.
            options = options.password(password.trim_end_matches(['\r', '\n']));
        }
        Ok(options)
    }
}

fn unreadable(file: &Path, error: &std::io::Error) -> ServerFailure {
    ServerFailure {
        text: format!("password file {} cannot be read: {}", file.display(), error.kind()),
        fault: Some(WriteFault::Unauthorized),
        is_conflict: false,
        is_connection: false,
    }
}

fn host_and_port(address: &str) -> Result<(String, u16), String> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or("host: `]` is missing after the IPv6 address")?;
            (host, after.strip_prefix(':'))
        }
        None => match address.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        },
    };
    let port = match port {
        None | Some("") => DEFAULT_PORT,
        Some(port) => {
            port.parse().ok().filter(|port| *port > 0).ok_or("port must be a number from 1 to 65535".to_owned())?
        }
    };
    Ok((decoded("host", host)?, port))
}

fn decoded(part: &str, text: &str) -> Result<String, String> {
    match percent_decode_str(text).decode_utf8() {
        Ok(text) if !text.contains('\0') => Ok(text.into_owned()),
        _ => Err(format!("{part} has an invalid percent-encoding")),
    }
}

fn parsed_ssl_mode(text: &str) -> Result<SslMode, String> {
    let found = SslMode::ALL.into_iter().find(|(name, _)| *name == text).map(|(_, mode)| mode);
    found.ok_or_else(|| "sslmode must be disable, prefer, require, verify-ca or verify-full".to_owned())
}

fn parsed_connections(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (2..=MAX_CONNECTIONS).contains(number));
    number.ok_or_else(|| format!("max_connections must be a number from 2 to {MAX_CONNECTIONS}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(rest: &str) -> PostgresUrl {
        PostgresUrl::parse(rest).unwrap()
    }

    #[test]
    fn a_remote_server_is_verified_by_default_and_this_machine_need_not_be() {
        for (rest, mode) in [
            ("busbar@db.example.com/ledger", SslMode::VerifyFull),
            ("busbar@10.0.0.7:6432/ledger", SslMode::VerifyFull),
            ("busbar@[2001:db8::1]/ledger", SslMode::VerifyFull),
            ("busbar@localhost/ledger", SslMode::Prefer),
            ("busbar@[::1]:5433/ledger", SslMode::Prefer),
            ("busbar@%2Frun%2Fpostgresql/ledger", SslMode::Disable),
            ("busbar@/ledger?host=/run/postgresql", SslMode::Disable),
            ("busbar@db/ledger?sslmode=require", SslMode::Require),
        ] {
            let url = parsed(rest);
            assert_eq!(url.ssl_mode, mode, "{rest}");
            assert_eq!(url.is_unprotected(), mode == SslMode::Require, "{rest}");
        }
    }

    #[test]
    fn every_part_of_a_url_is_read() {
        let url = parsed(
            "bus%40bar@[::1]:5433/led%2Fger?sslmode=verify-ca&sslrootcert=/ca.pem&sslcert=/c.pem&sslkey=/k.pem\
             &application_name=two&max_connections=3",
        );
        assert_eq!((url.user.as_str(), url.database.as_str(), url.port), ("bus@bar", "led/ger", 5433));
        assert_eq!((url.root_cert, url.client_cert), (Some("/ca.pem".into()), Some("/c.pem".into())));
        assert_eq!((url.application_name.as_str(), url.max_connections), ("two", 3));
    }

    #[test]
    fn an_error_names_the_part() {
        for (rest, part) in [
            ("db/ledger", "user is missing"),
            ("busbar@db", "database is missing"),
            ("busbar@/ledger", "host is missing"),
            ("busbar@db:0/ledger", "port must be"),
            ("busbar@db:x/ledger", "port must be"),
            ("busbar@[::1/ledger", "host: `]` is missing"),
            ("busbar@db/ledger?sslmode=allow", "sslmode must be"),
            ("busbar@db/ledger?sslcert=/c.pem", "sslcert and sslkey"),
            ("busbar@db/ledger?max_connections=1", "max_connections must be"),
            ("busbar@db/ledger?options=-c", "parameter options is unknown"),
            ("bus%FFbar@db/ledger", "user has an invalid percent-encoding"),
        ] {
            assert!(PostgresUrl::parse(rest).unwrap_err().contains(part), "{rest}");
        }
    }

    #[test]
    fn a_password_is_recognised_wherever_it_is() {
        for with in ["postgres://u:p@h/d", "postgres://u:p@x@h/d", "postgres://u@h/d?password=p", "mysql://u:p/@h/d"] {
            assert!(has_password(with), "{with}");
        }
        for without in ["postgres://u@h:5432/d", "sqlite:/a:b", "postgres://u@[::1]:5432/d?host=/a"] {
            assert!(!has_password(without), "{without}");
        }
    }
}
