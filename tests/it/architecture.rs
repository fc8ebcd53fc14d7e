//! Keeps the layers apart (docs/architecture.md), and the few rules that no compiler knows.
//!
//! Every path that code names is looked at, in `use` lines and inline; test code is free. To move a border, change
//! [`LAYERS`] here, the table in docs/architecture.md, and say why in an ADR.

use std::path::Path;

use crate::plain_values::is_plain_value;
use crate::product_sources::{other_crates, our_modules, product_sources, top};
use crate::source::{files, paths, read, without_tests, without_text};

/// What a layer may use of ours, and of others.
struct Layer {
    /// The layer's module, or a file's path under `src/` where one file has rules of its own (first match counts).
    name: &'static str,
    /// Our modules it may use, besides itself; a module within another as `cluster::auth`.
    ours: Ours,
    /// Crates it may use.
    others: Others,
}

enum Ours {
    Only(&'static [&'static str]),
    AllBut(&'static [&'static str]),
}

enum Others {
    /// These and no more (`std` is always allowed).
    Only(&'static [&'static str]),
    /// All but what starts with one of these paths.
    AllBut(&'static [&'static str]),
}

use Others as O;
use Ours::{AllBut, Only};

/// Usable by every layer but `domain`, `api` and `resolve`.
const COMMON: &[&str] = &["clock", "metrics", "notify", "tasks", "telemetry"];

/// Everything that runs things over a network or a runtime: what pure code must not know.
const KUBE: &[&str] = &["kube", "kube_runtime", "kube_client", "k8s_openapi"];

/// The API server, HTTP servers and the engine of the ledger: not for what calls providers.
const OUTSIDE: &[&str] = &["kube", "k8s_openapi", "axum", "rusqlite"];

/// The crates that the pure rules may use.
const DOMAIN: &[&str] =
    &["cronexpr", "fnv", "hex", "hmac", "jiff", "rust_decimal", "serde", "serde_json", "sha2", "thiserror", "uuid"];

/// The crates that texts for users may use.
const EXPLAIN: &[&str] =
    &["jiff", "serde", "serde_json", "serde_yaml", "rust_decimal", "thiserror", "secrecy", "kube::Resource"];

const LAYERS: &[Layer] = &[
    Layer { name: "domain", ours: Only(&[]), others: O::Only(DOMAIN) },
    // The derives live in `kube`; its client does not belong here, and a schema is all that `api` makes.
    Layer {
        name: "api",
        ours: Only(&[]),
        others: O::Only(&[
            "hex",
            "k8s_openapi",
            "kube",
            "schemars",
            "serde",
            "serde_json",
            "serde_yaml",
            "sha2",
            "thiserror",
        ]),
    },
    Layer { name: "clock", ours: Only(&["domain"]), others: O::AllBut(KUBE) },
    Layer { name: "metrics", ours: Only(&[]), others: O::AllBut(KUBE) },
    Layer { name: "notify", ours: Only(&[]), others: O::Only(&["tokio"]) },
    Layer { name: "tasks", ours: Only(&[]), others: O::AllBut(KUBE) },
    Layer { name: "telemetry", ours: Only(&[]), others: O::AllBut(KUBE) },
    Layer { name: "shutdown", ours: Only(&[]), others: O::AllBut(KUBE) },
    Layer { name: "ledger", ours: Only(&["domain"]), others: O::AllBut(&["kube", "k8s_openapi", "axum", "reqwest"]) },
    // What a provider is, as data: files and bytes in, values out. `Url` is the only type of the HTTP client.
    Layer {
        name: "profile",
        ours: Only(&["domain"]),
        others: O::Only(&[
            "bytes",
            "http",
            "jiff",
            "percent_encoding",
            "reqwest::Url",
            "rust_decimal",
            "schemars",
            "serde",
            "serde_json",
            "serde_yaml",
            "thiserror",
        ]),
    },
    // One connection's effective settings: values in, values out. Certificates are parsed here, not used.
    Layer {
        name: "settings",
        ours: Only(&["domain", "profile"]),
        others: O::Only(&[
            // Parses validation rules.
            "cel",
            "http",
            "ipnet",
            "jiff",
            "rust_decimal",
            "reqwest::Certificate",
            "reqwest::Identity",
            "reqwest::Url",
            "rustls",
            "secrecy",
            "sha2",
            "thiserror",
            "x509_cert",
            "zeroize",
        ]),
    },
    // From specs to settings, plans and route inputs: values in, values out.
    Layer {
        name: "resolve",
        ours: Only(&["domain", "api", "profile", "settings"]),
        others: O::Only(&["jiff", "rust_decimal", "secrecy"]),
    },
    Layer { name: "provider", ours: Only(&["domain", "profile", "settings", "ledger"]), others: O::AllBut(OUTSIDE) },
    Layer {
        name: "sync",
        ours: Only(&["domain", "profile", "settings", "provider", "ledger"]),
        others: O::AllBut(OUTSIDE),
    },
    Layer {
        name: "work",
        ours: Only(&["domain", "profile", "settings", "provider", "ledger", "sync"]),
        others: O::AllBut(OUTSIDE),
    },
    // Decisions on payouts: reads specs and settings as values, and the running connections.
    Layer {
        name: "routing",
        ours: Only(&["domain", "api", "profile", "settings", "resolve", "provider", "ledger"]),
        others: O::AllBut(&["kube", "k8s_openapi", "axum", "rusqlite", "reqwest"]),
    },
    // A Secret is read here and used elsewhere: its content is a plain value below both.
    Layer {
        name: "cluster",
        ours: Only(&["domain", "api", "settings::secret_data"]),
        others: O::AllBut(&["rusqlite", "reqwest"]),
    },
    Layer { name: "controllers/*/decide.rs", ours: Only(PURE), others: O::Only(DECIDE) },
    Layer { name: "controllers/*/status.rs", ours: Only(PURE), others: O::Only(DECIDE) },
    Layer {
        name: "controllers",
        ours: AllBut(&["gateway", "admin", "app", "cli", "testbed"]),
        others: O::AllBut(&["axum", "rusqlite", "reqwest"]),
    },
    // What users are told of a spec: values in, values out.
    Layer {
        name: "explain",
        ours: Only(&["domain", "api", "profile", "settings", "resolve"]),
        others: O::Only(EXPLAIN),
    },
    // The server of both ports: sockets and limits, nothing of what is served.
    Layer { name: "http_server", ours: Only(&["domain"]), others: O::AllBut(KUBE) },
    Layer { name: "admin", ours: Only(&["cluster", "http_server"]), others: O::AllBut(&["rusqlite", "reqwest"]) },
    Layer {
        name: "gateway",
        ours: Only(&["domain", "profile", "settings", "provider", "ledger", "routing", "cluster::auth", "http_server"]),
        others: O::AllBut(&["kube_runtime", "rusqlite"]),
    },
    // The bench knows what a bank and an API server look like from outside, nothing of how Busbar works inside.
    Layer { name: "testbed", ours: Only(&["domain", "api"]), others: O::AllBut(&["rusqlite"]) },
    Layer { name: "cli", ours: AllBut(&["testbed"]), others: O::AllBut(&[]) },
    Layer { name: "app", ours: AllBut(&["testbed"]), others: O::AllBut(&[]) },
    Layer { name: "main", ours: AllBut(&["testbed"]), others: O::AllBut(&[]) },
    Layer { name: "bin", ours: AllBut(&[]), others: O::AllBut(&[]) },
    Layer { name: "lib", ours: AllBut(&[]), others: O::AllBut(&[]) },
];

/// The pure layers that a decision may use.
const PURE: &[&str] = &["domain", "api", "controllers", "resolve"];

/// A decision is values in, values out: plain data types only, nothing that could wait or reach out.
const DECIDE: &[&str] = &["jiff", "serde", "serde_json", "rust_decimal", "thiserror", "k8s_openapi", "schemars"];

/// What is wrong in one file, a line each. `path` is relative to `src/`.
fn violations(path: &str, text: &str, ours: &[String], others: &[String]) -> Vec<String> {
    let at = |line: usize, what: String| format!("src/{path}:{line}: {what}");
    let Some(layer) = LAYERS.iter().find(|layer| governs(layer.name, path)) else {
        return vec![at(1, "no layer of tests/it/architecture.rs covers this file: add it there".to_owned())];
    };
    let code = without_tests(&without_text(text));
    let mut found = Vec::new();
    for (line, named) in paths(&code) {
        let name = named.join("::");
        if let Some(module) = own_module(path, &named, ours) {
            let plain = layer.name.contains('*') && name.strip_prefix("crate::").is_some_and(is_plain_value);
            if !plain && !may_use(layer, &module) {
                found.push(at(line, format!("`{}` may not use `{}` ({name})", layer.name, module.join("::"))));
            }
        } else if others.contains(&named[0]) && !may_use_crate(layer, &name) {
            found.push(at(line, format!("`{}` may not use the crate `{}` ({name})", layer.name, named[0])));
        }
        let ends =
            |a: &[&str], b: &[&str]| named.windows(2).any(|w| a.contains(&w[0].as_str()) && b.contains(&w[1].as_str()));
        if path != "clock.rs" && ends(&["Instant", "SystemTime", "Timestamp", "Zoned", "Utc", "Local"], &["now"]) {
            found.push(at(line, format!("only clock.rs reads time ({name})")));
        }
        if path != "cli.rs" && ends(&["env"], &["var", "vars", "var_os", "vars_os", "args", "args_os", "set_var"]) {
            found.push(at(line, format!("only cli.rs reads the environment ({name})")));
        }
    }
    for (number, line) in code.lines().enumerate() {
        for banned in [".unwrap()", ".unwrap_err()", ".expect(", ".expect_err(", "panic!", "todo!", "unimplemented!"] {
            if line.contains(banned) {
                found.push(at(number + 1, format!("`{banned}` outside tests: return an error")));
            }
        }
        if ["Box<dyn Error", "Box<dyn std::error::Error"].iter().any(|b| line.contains(b)) {
            found.push(at(number + 1, "`Box<dyn Error>`: name the error (thiserror)".to_owned()));
        }
    }
    found
}

/// Each rule's name, and the modules of ours that it names.
pub(crate) fn rules() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    LAYERS.iter().map(|layer| match layer.ours {
        Only(modules) | AllBut(modules) => (layer.name, modules),
    })
}

/// Whether the rules called `name` are those of the file `path`.
pub(crate) fn governs(name: &str, path: &str) -> bool {
    match name.split_once('*') {
        Some((before, after)) => path.starts_with(before) && path.ends_with(after) && path.len() > name.len(),
        None => top(path) == name,
    }
}

/// Where within our modules `named` leads; `None` if it leads elsewhere.
fn own_module(path: &str, named: &[String], ours: &[String]) -> Option<Vec<String>> {
    let mut at: Vec<&str> = path.trim_end_matches(".rs").trim_end_matches("/mod").split('/').collect();
    let mut rest = named.iter().map(String::as_str).peekable();
    match rest.next()? {
        "crate" | "busbar" => at.clear(),
        "super" => {
            at.pop();
            while rest.next_if(|&s| s == "super").is_some() {
                at.pop();
            }
        }
        _ => return None,
    }
    at.extend(rest);
    let module = *at.first()?;
    ours.iter().any(|m| m == module).then(|| at.into_iter().map(str::to_owned).collect())
}

fn may_use(layer: &Layer, module: &[String]) -> bool {
    let (whole, module) = (module.join("::"), module[0].as_str());
    let own = layer.name.split('/').next() == Some(module);
    let common =
        !matches!(layer.name, "domain" | "api" | "resolve") && !layer.name.contains('*') && COMMON.contains(&module);
    own || common
        || match layer.ours {
            Only(list) => list.iter().any(|allowed| within(&whole, allowed)),
            AllBut(list) => !list.contains(&module),
        }
}

/// Whether the path `name` is `prefix` or something in it.
pub(crate) fn within(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn may_use_crate(layer: &Layer, name: &str) -> bool {
    let within = |prefix: &&str| within(name, prefix);
    // The derives of `kube`, not its client: `api` says what objects look like, it makes no requests.
    if layer.name == "api"
        && ["kube::client", "kube::Client", "kube::Api", "kube::api::Api", "kube::runtime"].iter().any(within)
    {
        return false;
    }
    match layer.others {
        O::Only(list) => list.iter().any(within),
        O::AllBut(list) => !list.iter().any(within),
    }
}

#[test]
fn every_file_keeps_to_its_layer() {
    let (ours, others) = (our_modules(), other_crates());
    assert!(ours.iter().any(|m| m == "domain") && others.iter().any(|c| c == "kube"), "the scan found too little");
    let found: Vec<_> =
        product_sources().iter().flat_map(|p| violations(p, &read(Path::new("src").join(p)), &ours, &others)).collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn no_file_has_more_than_400_lines() {
    let long: Vec<_> = ["src", "tests", "benches", "hack"]
        .into_iter()
        .flat_map(|folder| files(folder, "rs"))
        .map(|path| (read(&path).lines().count(), path))
        .filter(|(lines, _)| *lines > 400)
        .map(|(lines, path)| format!("{}: {lines} lines, at most 400 (tests may move to a tests.rs)", path.display()))
        .collect();
    assert!(long.is_empty(), "\n{}\n", long.join("\n"));
}

#[test]
fn every_file_begins_with_its_purpose() {
    let silent: Vec<_> = product_sources()
        .into_iter()
        .filter(|p| !read(Path::new("src").join(p)).starts_with("//! "))
        .map(|p| format!("src/{p}: starts without a `//!` line"))
        .collect();
    assert!(silent.is_empty(), "\n{}\n", silent.join("\n"));
}

#[test]
fn a_planted_violation_of_each_rule_is_found() {
    let (ours, others) = (our_modules(), other_crates());
    let planted = [
        ("domain/breaker.rs", "use kube::Client;"),
        ("domain/breaker.rs", "use crate::clock::Clock;"),
        ("domain/breaker.rs", "use super::super::ledger::Ledger;"),
        ("domain/breaker.rs", "fn f() { tokio::spawn(g()); }"),
        ("domain/breaker.rs", "fn f() { let t = jiff::Timestamp::now(); }"),
        ("api/v1alpha1/common.rs", "use crate::domain::key::ObjectKey;"),
        ("api/v1alpha1/common.rs", "use kube::{Client, CustomResource};"),
        ("ledger/sqlite.rs", "use crate::{\n    domain::key,\n    provider::connection::Connection,\n};"),
        ("profile/definition.rs", "use crate::settings::Settings;"),
        ("profile/operation/request.rs", "use crate::provider::call::Request;"),
        ("profile/url.rs", "use reqwest::Client;"),
        ("settings/draft.rs", "use crate::provider::call::Request;"),
        ("settings/tls.rs", "use reqwest::Client;"),
        ("resolve/sync_job.rs", "use crate::sync::report::RunReport;"),
        ("resolve/secrets.rs", "use crate::cluster::secrets::SecretReader;"),
        ("resolve/fields.rs", "use crate::clock::Clock;"),
        ("resolve/connection/draft.rs", "use kube::ResourceExt;"),
        ("cluster/secrets.rs", "use crate::settings::Settings;"),
        ("explain/job.rs", "use crate::controllers::Ctx;"),
        ("controllers/bank_route/decide.rs", "use crate::sync::report::RunReport;"),
        ("provider/connection.rs", "use crate::api::v1alpha1::ProviderConnection;"),
        ("provider/connection.rs", "use rusqlite::Connection;"),
        ("work/pool.rs", "fn f(c: &kube::Client) {}"),
        ("cluster/lease.rs", "use crate::ledger::Ledger;"),
        ("controllers/bank_route/decide.rs", "use crate::provider::registry::Registry;"),
        ("controllers/bank_route/decide.rs", "use futures::StreamExt;"),
        ("controllers/bank_route/act.rs", "use crate::admin::Server;"),
        ("admin/mod.rs", "use crate::controllers::Ctx;"),
        ("gateway/mod.rs", "use crate::cluster::{auth::Auth, status::StatusWriter};"),
        ("gateway/calls.rs", "fn f(c: &super::super::cluster::client::Clients) {}"),
        ("app.rs", "use crate::testbed::sim::Sim;"),
        ("app.rs", "fn f() { let _ = std::time::Instant::now(); }"),
        ("app.rs", "use std::env;\nfn f() { env::var(\"HOME\"); }"),
        ("app.rs", "fn f() -> u8 { g().unwrap() }"),
        ("app.rs", "fn f() { panic!(\"no\") }"),
        ("app.rs", "fn f() -> Result<(), Box<dyn Error>> { Ok(()) }"),
        ("nowhere/mod.rs", "fn f() {}"),
    ];
    for (path, line) in planted {
        assert!(!violations(path, line, &ours, &others).is_empty(), "not found in {path}: {line}");
    }
}

#[test]
fn allowed_code_is_not_reported() {
    let (ours, others) = (our_modules(), other_crates());
    let allowed = [
        (
            "domain/breaker.rs",
            "use crate::domain::time::Mono;\nuse jiff::Timestamp;\n/// Not [`kube::Client`].\nfn f() {}",
        ),
        (
            "domain/breaker.rs",
            "#[cfg(test)]\nmod tests {\n    use proptest::prelude::*;\n    fn f() { g().unwrap(); }\n}",
        ),
        ("api/v1alpha1/common.rs", "use kube::CustomResource;"),
        ("provider/connection.rs", "use crate::{clock::Clock, domain::key::Kind, ledger::Ledger, metrics::Metrics};"),
        ("controllers/bank_route/act.rs", "use crate::{cluster::events::Recorder, provider::registry::Registry};"),
        ("controllers/bank_route/decide.rs", "use super::observe::Observed;\nuse crate::domain::route::evaluate;"),
        ("gateway/auth.rs", "use crate::cluster::auth::Authenticator;"),
        ("clock.rs", "fn f() { let t = Timestamp::now(); }"),
        ("cli.rs", "fn f() { std::env::var(\"BUSBAR_X\"); }"),
        ("app.rs", "fn f() -> u8 { g().unwrap_or(1) }"),
    ];
    for (path, line) in allowed {
        assert_eq!(violations(path, line, &ours, &others), Vec::<String>::new(), "{path}: {line}");
    }
}
