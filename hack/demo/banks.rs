//! What happens to the simulated banks, through the simulator's control API.

use busbar::testbed::sim::{Auth, Behaviour, Step, Transaction};
use serde::Serialize;

use crate::failure::Failure;

/// The simulator's control API.
pub(crate) struct Banks {
    http: reqwest::Client,
    control: String,
}

impl Banks {
    pub(crate) fn new(http: reqwest::Client, control: &str) -> Self {
        Self { http, control: control.to_owned() }
    }

    /// The credential that the bank wants from now on.
    pub(crate) async fn want(&self, bank: &str, auth: &Auth) -> Result<(), Failure> {
        self.send(self.http.put(self.url(bank, "auth")), auth).await
    }

    /// The bank answers 503 to everything.
    pub(crate) async fn fail(&self, bank: &str) -> Result<(), Failure> {
        self.send(self.http.post(self.url(bank, "fail")), &Step::from(Behaviour::status(503))).await
    }

    /// The bank is well again.
    pub(crate) async fn recover(&self, bank: &str) -> Result<(), Failure> {
        self.send(self.http.post(self.url(bank, "recover")), &()).await
    }

    /// The bank books these.
    pub(crate) async fn book(&self, bank: &str, account: &str, booked: &[Transaction]) -> Result<(), Failure> {
        self.send(self.http.post(self.url(bank, &format!("accounts/{account}/transactions"))), &booked).await
    }

    fn url(&self, bank: &str, what: &str) -> String {
        format!("{}/banks/{bank}/{what}", self.control)
    }

    async fn send(&self, request: reqwest::RequestBuilder, body: &impl Serialize) -> Result<(), Failure> {
        let failed = |detail: String| Failure::Http { what: "the simulator's control API".into(), detail };
        let body = serde_json::to_vec(body).map_err(|error| failed(error.to_string()))?;
        let request = request.header(http::header::CONTENT_TYPE, "application/json").body(body);
        let answer = request.send().await.map_err(|error| failed(error.to_string()))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        Err(failed(format!("{status} {}", answer.text().await.unwrap_or_default())))
    }
}
