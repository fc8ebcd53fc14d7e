//! What the pages take as given: simulated banks and a database in place of those that they name.

use busbar::testbed::postgres::{PostgresServer, ServerCertificate};
use busbar::testbed::sim::{AccountConfig, BankConfig, BankHandle, Sim};

use crate::kit::banks::simulator;

/// The key of Mono's sandbox in the guide.
const MONO_KEY: &str = "test_sk_example";

/// Transactions of the account in the guide.
pub(super) const TRANSACTIONS: u64 = 120;

/// The password of the guide's user at the database.
pub(super) const PASSWORD: &str = "database-password-of-the-guide";

/// The address of the database in the guide.
const DATABASE: &str = "db.example.com:5432";

/// Banks and a database.
pub(super) struct Surroundings {
    _sim: Sim,
    mono: BankHandle,
    others: Vec<(&'static str, BankHandle)>,
    database: PostgresServer,
    /// The certificate of the authority of the database's certificate, as PEM.
    pub(super) database_authority: String,
}

impl Surroundings {
    pub(super) async fn start() -> Self {
        let sim = simulator().await;
        let config = BankConfig::mono("mono", MONO_KEY).accounts([AccountConfig::new("acc-1", TRANSACTIONS)]);
        let mono = sim.add_bank(config).await.unwrap();
        let mut others = Vec::new();
        for (name, address) in
            [("bank-a", "https://sandbox.bank-a.example"), ("bank-b", "https://sandbox.bank-b.example")]
        {
            others.push((address, sim.add_bank(BankConfig::new(name)).await.unwrap()));
        }
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let of_server = ServerCertificate { certificate: certificate.clone(), key };
        let database = PostgresServer::start_with_tls(&of_server).await.unwrap();
        for statement in ["CREATE DATABASE busbar".to_owned(), format!("ALTER USER busbar PASSWORD '{PASSWORD}'")] {
            database.execute("postgres", &statement).await.unwrap();
        }
        Self { _sim: sim, mono, others, database, database_authority: certificate }
    }

    /// Commands or a manifest of the guide with the addresses of this machine.
    pub(super) fn localized(&self, text: &str) -> String {
        let endpoint = |url: &str| format!("  endpoint:\n    baseURL: {url}\n    insecure: true\n");
        let mono = endpoint(&format!("{}/v2", self.mono.base_url()));
        let anchor = "  provider: mono\n";
        let text = text.replace(anchor, &format!("{mono}{anchor}"));
        let text = text.replace(DATABASE, &format!("localhost:{}", self.database.tcp_port()));
        self.others.iter().fold(text, |text, (address, bank)| {
            text.replace(&format!("  endpoint:\n    baseURL: {address}\n"), &endpoint(&bank.base_url()))
        })
    }
}
