//! Throw-away PostgreSQL servers: each in a directory of its own, as shipped (with fsync), gone with this process.
//!
//! A small shell owns the server. It reads commands from a pipe that only this process holds; when this process ends,
//! for whatever reason, the shell ends the server by its process id and removes the directory. The server refuses to
//! run as root, so a root process runs the shell as the user `postgres`.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection};

/// The user that the databases belong to.
pub const USER: &str = "busbar";
/// Names the socket; no server listens on this port.
const SOCKET_PORT: u16 = 5432;
const READY_POLL: Duration = Duration::from_millis(50);
const READY_POLLS: u32 = 1_200;

/// Arguments: folder of the programs, folder of the run, further settings of the server.
const GUARD: &str = r#"
bin=$1; dir=$2; shift 2
trap '' HUP
start() { "$bin/postgres" -D "$dir/data" -k "$dir" "$@" </dev/null >>"$dir/log" 2>&1 & pid=$!; }
"$bin/initdb" -N -D "$dir/data" -U busbar -E UTF8 --locale=C --auth-local=trust --auth-host=scram-sha-256 \
  </dev/null >"$dir/log" 2>&1 || { echo failed; exit 1; }
[ ! -f "$dir/server.key" ] || cp "$dir/server.key" "$dir/server.crt" "$dir/data/"
start "$@"
echo ready
while read -r verb name; do
  case $verb in
    drop) socket=$(echo "$dir"/.s.PGSQL.*[0-9])
      "$bin/psql" -h "$dir" -p "${socket##*.}" -U busbar -d postgres -qc "DROP DATABASE IF EXISTS $name WITH (FORCE)" \
      </dev/null >>"$dir/log" 2>&1 & ;;
    stop) kill -INT $pid; wait $pid ;;
    crash) kill -QUIT $pid; wait $pid ;;
    start) start "$@" ;;
  esac
  echo done
done
kill -QUIT $pid 2>/dev/null
wait $pid
rm -rf "$dir"
"#;

/// A running server.
#[derive(Debug)]
pub struct PostgresServer {
    folder: PathBuf,
    tcp_port: u16,
    control: Mutex<Control>,
    databases: AtomicU32,
    _guard: Child,
}

#[derive(Debug)]
struct Control {
    commands: ChildStdin,
    replies: BufReader<ChildStdout>,
}

/// The certificate and key of a server that speaks TLS, as PEM.
#[derive(Clone, Debug)]
pub struct ServerCertificate {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl PostgresServer {
    /// The server that all tests of this process share.
    ///
    /// # Errors
    /// If no server can be started; the text says why.
    pub async fn shared() -> Result<&'static Self, String> {
        static SHARED: OnceLock<Result<PostgresServer, String>> = OnceLock::new();
        let server = SHARED.get_or_init(|| Self::launch(None)).as_ref().map_err(Clone::clone)?;
        server.wait_until_ready().await?;
        Ok(server)
    }

    /// A server of its own.
    ///
    /// # Errors
    /// If it cannot be started; the text says why.
    pub async fn start() -> Result<Self, String> {
        let server = Self::launch(None)?;
        server.wait_until_ready().await?;
        Ok(server)
    }

    /// A server of its own that also listens on 127.0.0.1, with TLS, and demands a password there.
    ///
    /// # Errors
    /// If it cannot be started; the text says why.
    pub async fn start_with_tls(certificate: &ServerCertificate) -> Result<Self, String> {
        let server = Self::launch(Some(certificate))?;
        server.wait_until_ready().await?;
        Ok(server)
    }

    fn launch(certificate: Option<&ServerCertificate>) -> Result<Self, String> {
        let programs = programs()?;
        // Not in TMPDIR: tests on a small volume have that one on it.
        let folder = tempfile::Builder::new().prefix("busbar-postgres-").tempdir_in("/tmp").map_err(text)?.keep();
        // A Pod's process reaches the socket by the group of the folder.
        fs::set_permissions(&folder, Permissions::from_mode(0o710)).map_err(text)?;
        let mut settings = ["-c", "max_connections=300", "-c", "listen_addresses="].join("\n");
        let mut tcp_port = 0;
        if let Some(certificate) = certificate {
            for (name, content) in [("server.crt", &certificate.certificate), ("server.key", &certificate.key)] {
                fs::write(folder.join(name), content).map_err(text)?;
                fs::set_permissions(folder.join(name), Permissions::from_mode(0o600)).map_err(text)?;
            }
            tcp_port = TcpListener::bind(("127.0.0.1", 0)).and_then(|socket| socket.local_addr()).map_err(text)?.port();
            settings = format!("-c\nmax_connections=300\n-c\nssl=on\n-c\nlisten_addresses=127.0.0.1\n-p\n{tcp_port}");
        }
        let mut command = Command::new("sh");
        command.args(["-c", GUARD, "postgres-guard"]).arg(programs).arg(&folder).args(settings.lines());
        if let Some(user) = unprivileged_user()? {
            for path in fs::read_dir(&folder).map_err(text)?.flatten().map(|entry| entry.path()).chain([folder.clone()])
            {
                chown(path, Some(user.uid), Some(user.gid)).map_err(text)?;
            }
            command.uid(user.uid).gid(user.gid);
        }
        let mut guard = command
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(text)?;
        let (Some(commands), Some(replies)) = (guard.stdin.take(), guard.stdout.take()) else {
            return Err("the guard of the PostgreSQL server has no pipes".to_owned());
        };
        let mut control = Control { commands, replies: BufReader::new(replies) };
        if control.reply()? != "ready" {
            return Err(format!("initdb failed: {}", log(&folder)));
        }
        let (control, databases) = (Mutex::new(control), AtomicU32::new(0));
        Ok(Self { folder, tcp_port, control, databases, _guard: guard })
    }

    /// Creates an empty database; returns its URL, as for `--ledger`.
    ///
    /// # Errors
    /// If the server refuses; the text says why.
    pub async fn create_database(&self) -> Result<String, String> {
        self.create_database_with("").await
    }

    /// Creates an empty database with further clauses of `CREATE DATABASE`; returns its URL.
    ///
    /// # Errors
    /// If the server refuses; the text says why.
    pub async fn create_database_with(&self, clauses: &str) -> Result<String, String> {
        let name = format!("ledger_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.execute("postgres", &format!("CREATE DATABASE {name} {clauses}")).await?;
        Ok(self.url(&name))
    }

    /// Drops a database that was created here, in the background: the volume of a machine that runs all tests is
    /// spared.
    pub fn drop_database(&self, url: &str) {
        let name = url.split_once("@/").and_then(|(_, rest)| rest.split('?').next());
        if let Some(name) = name.filter(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')) {
            // A server that has ended has no databases.
            drop(self.command(&format!("drop {name}")));
        }
    }

    /// The URL of a database, over the server's socket.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}@/{database}?host={}&port={}", self.folder.display(), self.socket_port())
    }

    /// The port on 127.0.0.1 of a server with TLS.
    pub const fn tcp_port(&self) -> u16 {
        self.tcp_port
    }

    /// The path of the server's socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.join(format!(".s.PGSQL.{}", self.socket_port()))
    }

    /// Executes statements in a database, as its superuser.
    ///
    /// # Errors
    /// If the server refuses; the text says why.
    pub async fn execute(&self, database: &str, sql: &str) -> Result<(), String> {
        let mut connection = self.connect(database).await.map_err(text)?;
        let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await;
        drop(connection.close().await);
        done.map(drop).map_err(|error| format!("{sql}: {error}"))
    }

    /// A connection to a database, as its superuser.
    ///
    /// # Errors
    /// If the server cannot be reached.
    pub async fn connect(&self, database: &str) -> Result<PgConnection, sqlx::Error> {
        let options = PgConnectOptions::new_without_pgpass()
            .socket(&self.folder)
            .port(self.socket_port())
            .username(USER)
            .database(database)
            .disable_statement_logging();
        PgConnection::connect_with(&options).await
    }

    /// Stops the server, which ends its connections, and starts it again.
    ///
    /// # Errors
    /// If it does not start again; the text says why.
    pub async fn restart(&self) -> Result<(), String> {
        self.stop()?;
        self.start_again().await
    }

    /// Stops the server.
    ///
    /// # Errors
    /// If its guard has ended.
    pub fn stop(&self) -> Result<(), String> {
        self.command("stop")
    }

    /// Ends the server as a crash does: its next start recovers from the log.
    ///
    /// # Errors
    /// If its guard has ended.
    pub fn crash(&self) -> Result<(), String> {
        self.command("crash")
    }

    /// Starts a server that was stopped.
    ///
    /// # Errors
    /// If it does not start; the text says why.
    pub async fn start_again(&self) -> Result<(), String> {
        self.command("start")?;
        self.wait_until_ready().await
    }

    const fn socket_port(&self) -> u16 {
        if self.tcp_port == 0 { SOCKET_PORT } else { self.tcp_port }
    }

    fn command(&self, verb: &str) -> Result<(), String> {
        let mut control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(control.commands, "{verb}").map_err(text)?;
        control.reply().map(drop)
    }

    async fn wait_until_ready(&self) -> Result<(), String> {
        let mut last = String::new();
        for _ in 0..READY_POLLS {
            match self.connect("postgres").await {
                Ok(connection) => {
                    drop(connection.close().await);
                    return Ok(());
                }
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(READY_POLL).await;
        }
        Err(format!("the PostgreSQL server does not start: {last}\n{}", log(&self.folder)))
    }
}

impl Control {
    fn reply(&mut self) -> Result<String, String> {
        let mut line = String::new();
        self.replies.read_line(&mut line).map_err(text)?;
        Ok(line.trim().to_owned())
    }
}

/// The user that the server runs as, if this process is root.
struct SystemUser {
    uid: u32,
    gid: u32,
}

fn unprivileged_user() -> Result<Option<SystemUser>, String> {
    if fs::metadata("/proc/self").map_err(text)?.uid() != 0 {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd").map_err(text)?;
    let find = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut ids = line.split(':').skip(2).map(str::parse);
        Some(SystemUser { uid: ids.next()?.ok()?, gid: ids.next()?.ok()? })
    };
    find("postgres").map(Some).ok_or_else(|| "no user `postgres` to run a PostgreSQL server as".to_owned())
}

/// The folder of the newest installed server's programs.
fn programs() -> Result<PathBuf, String> {
    let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<PathBuf> = installed.map(|path| path.join("bin")).collect();
    found.sort_by_key(|path| version(path));
    found.extend(["/usr/local/bin", "/usr/bin"].map(PathBuf::from));
    let complete = |path: &PathBuf| path.join("initdb").exists() && path.join("postgres").exists();
    let (mut system, versions): (Vec<_>, Vec<_>) =
        found.into_iter().filter(complete).partition(|path| version(path).is_none());
    let newest = versions.into_iter().next_back().or_else(|| system.pop());
    newest.ok_or_else(|| "no PostgreSQL server is installed: run hack/setup (Debian package postgresql)".to_owned())
}

fn version(path: &Path) -> Option<u32> {
    path.parent()?.file_name()?.to_str()?.parse().ok()
}

fn log(folder: &Path) -> String {
    fs::read_to_string(folder.join("log")).unwrap_or_default()
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
