//! Client of the simulator's control API: what happens to the simulated banks.

use std::time::Duration;

use busbar::testbed::sim::{
    AccountConfig, Behaviour, PayoutBooks, PayoutConfig, RequiredAuth, Rule, Script, ScriptStep, Transaction,
};
use serde::Serialize;

use crate::error::Error;

/// Client of the simulator's control API.
pub(crate) struct SimClient {
    http: reqwest::Client,
    control: String,
}

impl SimClient {
    /// A client of the control API at `control`, its base URL.
    pub(crate) fn new(http: reqwest::Client, control: &str) -> Self {
        Self { http, control: control.to_owned() }
    }

    /// Sets the credential that the bank requires from now on.
    pub(crate) async fn set_auth(&self, bank: &str, auth: &RequiredAuth) -> Result<(), Error> {
        self.send(self.http.put(self.url(bank, "auth")), auth).await
    }

    /// Makes the bank answer 503 to every request.
    pub(crate) async fn fail(&self, bank: &str) -> Result<(), Error> {
        self.send(self.http.post(self.url(bank, "fail")), &ScriptStep::from(Behaviour::status(503))).await
    }

    /// Makes the bank take `latency` longer for requests below `path`.
    pub(crate) async fn slow_down(&self, bank: &str, path: &str, latency: Duration) -> Result<(), Error> {
        let script = Script { rules: vec![Rule::on(path, [ScriptStep::slow(latency)])] };
        self.send(self.http.put(self.url(bank, "script")), &script).await
    }

    /// Adds an account, or replaces it.
    pub(crate) async fn set_account(&self, bank: &str, account: &AccountConfig) -> Result<(), Error> {
        self.send(self.http.put(self.url(bank, &format!("accounts/{}", account.id))), account).await
    }

    /// Sets what becomes of the payouts that the bank gets from now on.
    pub(crate) async fn set_payouts(&self, bank: &str, config: &PayoutConfig) -> Result<(), Error> {
        self.send(self.http.put(self.url(bank, "payouts")), config).await
    }

    /// What the bank's own books say of payouts.
    pub(crate) async fn payout_books(&self, bank: &str) -> Result<PayoutBooks, Error> {
        let failed = |detail: String| Error::Http { what: "the books of a simulated bank".into(), detail };
        let response = self.http.get(self.url(bank, "payouts")).send().await;
        let text = response.map_err(|error| failed(error.to_string()))?.text().await;
        let text = text.map_err(|error| failed(error.to_string()))?;
        serde_json::from_str(&text).map_err(|error| failed(format!("{error}: {text}")))
    }

    /// Makes the bank healthy again.
    pub(crate) async fn recover(&self, bank: &str) -> Result<(), Error> {
        self.send(self.http.post(self.url(bank, "recover")), &()).await
    }

    /// Adds transactions to an account.
    pub(crate) async fn add_transactions(
        &self,
        bank: &str,
        account: &str,
        transactions: &[Transaction],
    ) -> Result<(), Error> {
        self.send(self.http.post(self.url(bank, &format!("accounts/{account}/transactions"))), &transactions).await
    }

    fn url(&self, bank: &str, path: &str) -> String {
        format!("{}/banks/{bank}/{path}", self.control)
    }

    async fn send(&self, request: reqwest::RequestBuilder, body: &impl Serialize) -> Result<(), Error> {
        let failed = |detail: String| Error::Http { what: "the simulator's control API".into(), detail };
        let body = serde_json::to_vec(body).map_err(|error| failed(error.to_string()))?;
        let request = request.header(http::header::CONTENT_TYPE, "application/json").body(body);
        let response = request.send().await.map_err(|error| failed(error.to_string()))?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        Err(failed(format!("{status} {}", response.text().await.unwrap_or_default())))
    }
}
