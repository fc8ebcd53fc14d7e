//! Throw-away RabbitMQ brokers: each in a directory of its own, on free ports of 127.0.0.1, with a cookie and a name
//! service (`epmd`) of its own, gone with this process.
//!
//! A small shell owns the broker, as in [`postgres`](super::postgres): it reads commands from a pipe that only this process
//! holds, and when this process ends, for whatever reason, it ends the broker by its process ID and removes the directory.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const READY_POLL: Duration = Duration::from_millis(100);
const READY_POLLS: u32 = 900;
/// How long a broker that has accepted a connection may take to say its first word.
const GREETING_TIMEOUT: Duration = Duration::from_secs(2);

/// Arguments: folder of the programs, folder of the run, port, port of the distribution, port of `epmd`.
///
/// `exec` of the server's script ends in the Erlang machine, whose ID the broker writes to its PID file.
const GUARD: &str = r#"
bin=$1; dir=$2; port=$3; dist=$4; epmd=$5
trap '' HUP
export HOME=$dir ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT=$epmd ERL_CRASH_DUMP=/dev/null
export RABBITMQ_NODENAME=busbar@localhost RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_NODE_PORT=$port
export RABBITMQ_DIST_PORT=$dist RABBITMQ_MNESIA_BASE=$dir/data RABBITMQ_LOG_BASE=$dir/logs RABBITMQ_LOGS=$dir/log
export RABBITMQ_CONFIG_FILE=$dir/rabbitmq.conf RABBITMQ_ADVANCED_CONFIG_FILE=$dir/advanced.config
export RABBITMQ_CONFIG_FILES=$dir/conf.d RABBITMQ_CONF_ENV_FILE=/dev/null RABBITMQ_PID_FILE=$dir/pid
export RABBITMQ_ENABLED_PLUGINS_FILE=$dir/plugins RABBITMQ_GENERATED_CONFIG_DIR=$dir/generated
export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1}'
export RABBITMQ_CTL_ERL_ARGS=$RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS
epmd -address 127.0.0.1 -port "$epmd" </dev/null >/dev/null 2>&1 & names=$!
start() { rm -f "$dir/pid"; "$bin/rabbitmq-server" </dev/null >>"$dir/out" 2>&1 & server=$!; }
beam() { cat "$dir/pid" 2>/dev/null; }
signal() { id=$(beam); [ -z "$id" ] || kill "-$1" "$id"; }
start
echo ready
while read -r verb value; do
  case $verb in
    stop) signal TERM; wait $server ;;
    crash) signal KILL; wait $server ;;
    pause) signal STOP ;;
    resume) signal CONT ;;
    start) start ;;
    disk) "$bin/rabbitmqctl" -q set_disk_free_limit "$value" </dev/null >>"$dir/out" 2>&1 ;;
    cut) "$bin/rabbitmqctl" -q close_all_connections --global cut </dev/null >>"$dir/out" 2>&1 ;;
  esac
  echo done
done
signal CONT
signal KILL
wait $server
kill $names 2>/dev/null
wait $names
rm -rf "$dir"
"#;

/// A running broker. Its user is `guest`, with the password `guest`.
#[derive(Debug)]
pub struct RabbitBroker {
    folder: PathBuf,
    port: u16,
    tls_port: u16,
    certificate: String,
    control: Mutex<Control>,
    _guard: Child,
}

#[derive(Debug)]
struct Control {
    commands: ChildStdin,
    replies: BufReader<ChildStdout>,
}

impl RabbitBroker {
    /// Starts a broker.
    ///
    /// # Errors
    /// If none can be started; the text says why.
    pub async fn start() -> Result<Self, String> {
        let broker = Self::launch()?;
        broker.wait_until_ready().await?;
        Ok(broker)
    }

    fn launch() -> Result<Self, String> {
        let programs = programs()?;
        let folder = tempfile::Builder::new().prefix("busbar-rabbitmq-").tempdir_in("/tmp").map_err(text)?.keep();
        fs::set_permissions(&folder, Permissions::from_mode(0o700)).map_err(text)?;
        // All are held until each is known: no two of them are the same.
        let sockets: Vec<TcpListener> =
            (0..4).map(|_| TcpListener::bind(("127.0.0.1", 0))).collect::<Result<_, _>>().map_err(text)?;
        let ports: Vec<u16> = sockets
            .iter()
            .map(|socket| socket.local_addr().map(|at| at.port()))
            .collect::<Result<_, _>>()
            .map_err(text)?;
        drop(sockets);
        let [port, tls_port, dist, epmd] = ports[..] else { return Err("four ports were asked for".to_owned()) };
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).map_err(text)?;
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let at = folder.display();
        let config = format!(
            "listeners.tcp.local = 127.0.0.1:{port}\nlisteners.ssl.local = 127.0.0.1:{tls_port}\n\
             ssl_options.cacertfile = {at}/server.crt\nssl_options.certfile = {at}/server.crt\n\
             ssl_options.keyfile = {at}/server.key\nssl_options.verify = verify_none\n\
             ssl_options.fail_if_no_peer_cert = false\ndisk_free_limit.absolute = 1MB\nlog.file.level = warning\n\
             vm_memory_high_watermark.relative = 0.6\n"
        );
        // As large as a real one: its content is what nodes know each other by.
        let cookie = format!("{port:05}{dist:05}{epmd:05}{:05}", std::process::id());
        let files = [
            ("rabbitmq.conf", config),
            ("plugins", "[].\n".to_owned()),
            (".erlang.cookie", cookie),
            ("server.crt", certificate.clone()),
            ("server.key", key),
        ];
        for (name, content) in files {
            fs::write(folder.join(name), content).map_err(text)?;
        }
        fs::set_permissions(folder.join(".erlang.cookie"), Permissions::from_mode(0o400)).map_err(text)?;
        let mut guard = Command::new("sh")
            .args(["-c", GUARD, "rabbitmq-guard"])
            .args([&programs, &folder])
            .args([port, dist, epmd].map(|port| port.to_string()))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(text)?;
        let (Some(commands), Some(replies)) = (guard.stdin.take(), guard.stdout.take()) else {
            return Err("the guard of the RabbitMQ broker has no pipes".to_owned());
        };
        let mut control = Control { commands, replies: BufReader::new(replies) };
        if control.reply()? != "ready" {
            return Err(format!("the RabbitMQ broker does not start: {}", log(&folder)));
        }
        Ok(Self { folder, port, tls_port, certificate, control: Mutex::new(control), _guard: guard })
    }

    /// The URL, as for `--amqp`.
    pub fn url(&self) -> String {
        format!("amqp://127.0.0.1:{}", self.port)
    }

    /// The URL with TLS, for this name of the machine; the broker's certificate is for `localhost`.
    pub fn tls_url(&self, host: &str) -> String {
        format!("amqps://{host}:{}", self.tls_port)
    }

    /// The certificate of the broker, as PEM: its own authority.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Ends the broker in order.
    ///
    /// # Errors
    /// If its guard has ended; so of all that follow.
    pub fn stop(&self) -> Result<(), String> {
        self.command("stop")
    }

    /// Ends the broker as a crash does.
    ///
    /// # Errors
    /// As of [`stop`](Self::stop).
    pub fn crash(&self) -> Result<(), String> {
        self.command("crash")
    }

    /// Freezes the broker: its connections stay, and nothing is answered.
    ///
    /// # Errors
    /// As of [`stop`](Self::stop).
    pub fn pause(&self) -> Result<(), String> {
        self.command("pause")
    }

    /// Lets a frozen broker go on.
    ///
    /// # Errors
    /// As of [`stop`](Self::stop).
    pub fn resume(&self) -> Result<(), String> {
        self.command("resume")
    }

    /// Sets or clears the disk alarm: while it is set the broker reads nothing from connections that publish.
    ///
    /// # Errors
    /// As of [`stop`](Self::stop).
    pub fn set_disk_alarm(&self, is_set: bool) -> Result<(), String> {
        self.command(if is_set { "disk 1000000GB" } else { "disk 1MB" })
    }

    /// Ends all connections.
    ///
    /// # Errors
    /// As of [`stop`](Self::stop).
    pub fn cut_connections(&self) -> Result<(), String> {
        self.command("cut")
    }

    /// Starts a broker that was stopped, or has crashed.
    ///
    /// # Errors
    /// If it does not start; the text says why.
    pub async fn start_again(&self) -> Result<(), String> {
        self.command("start")?;
        self.wait_until_ready().await
    }

    fn command(&self, verb: &str) -> Result<(), String> {
        let mut control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(control.commands, "{verb}").map_err(text)?;
        control.reply().map(drop)
    }

    async fn wait_until_ready(&self) -> Result<(), String> {
        for _ in 0..READY_POLLS {
            // The PID file is written before the broker listens, and the signals need it.
            if self.folder.join("pid").exists() && self.greets().await {
                return Ok(());
            }
            tokio::time::sleep(READY_POLL).await;
        }
        Err(format!("the RabbitMQ broker does not start:\n{}", log(&self.folder)))
    }

    /// Whether it answers the protocol's header.
    async fn greets(&self) -> bool {
        let exchange = async {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.ok()?;
            stream.write_all(b"AMQP\x00\x00\x09\x01").await.ok()?;
            // A method frame, `connection.start`.
            (stream.read_u8().await.ok()? == 1).then_some(())
        };
        matches!(tokio::time::timeout(GREETING_TIMEOUT, exchange).await, Ok(Some(())))
    }
}

impl Control {
    fn reply(&mut self) -> Result<String, String> {
        let mut line = String::new();
        self.replies.read_line(&mut line).map_err(text)?;
        Ok(line.trim().to_owned())
    }
}

/// The folder of the newest installed broker's programs.
fn programs() -> Result<PathBuf, String> {
    let installed = fs::read_dir("/usr/lib/rabbitmq/lib").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = installed.map(|entry| entry.path().join("sbin")).collect();
    found.retain(|path| path.join("rabbitmq-server").exists());
    found.sort();
    found.pop().ok_or_else(|| "no RabbitMQ is installed: run hack/setup (Debian package rabbitmq-server)".to_owned())
}

fn log(folder: &Path) -> String {
    ["out", "log"].map(|name| fs::read_to_string(folder.join(name)).unwrap_or_default()).join("\n")
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
