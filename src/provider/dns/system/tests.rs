//! The system's resolver against a real DNS server on a loopback port.

use std::net::SocketAddr;
use std::str::FromStr as _;

use hickory_resolver::config::ConnectionConfig;
use hickory_resolver::proto::op::{Message, MessageType, OpCode};
use hickory_resolver::proto::rr::{RData, Record};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::*;

/// What the server answers for a name and type.
type Zone = fn(&str, RecordType) -> Option<(ResponseCode, Vec<RData>, u32)>;

fn address(last: u8) -> RData {
    RData::from(IpAddr::from([192, 0, 2, last]))
}

/// Starts a server; returns its address and the names that it is asked for.
async fn serve(zone: Zone) -> (SocketAddr, mpsc::UnboundedReceiver<String>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let local = socket.local_addr().unwrap();
    let (asked, names) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
            let request = Message::from_vec(&buffer[..len]).unwrap();
            let query = request.queries[0].clone();
            let name = query.name().to_string();
            if query.query_type() == RecordType::A {
                drop(asked.send(name.clone()));
            }
            let Some((code, records, ttl)) = zone(&name, query.query_type()) else { continue };
            let mut response = Message::new(request.id, MessageType::Response, OpCode::Query);
            response.metadata.response_code = code;
            for data in records {
                response.add_answer(Record::from_rdata(query.name().clone(), ttl, data));
            }
            response.add_query(query);
            socket.send_to(&response.to_vec().unwrap(), from).await.unwrap();
        }
    });
    (local, names)
}

fn servers(server: SocketAddr, search: &[&str], ndots: usize, hosts: &str) -> NameServers {
    let mut connection = ConnectionConfig::udp();
    connection.port = server.port();
    let mut server = NameServerConfig::udp(server.ip());
    server.connections = vec![connection];
    let search = search.iter().map(|name| Name::from_str(name).unwrap()).collect();
    let mut known = Hosts::default();
    known.read_hosts_conf(hosts.as_bytes()).unwrap();
    let mut options = ResolverOpts::default();
    options.ndots = ndots;
    options.timeout = Duration::from_millis(200);
    options.attempts = 1;
    NameServers::new(known, ResolverConfig::from_parts(None, search, vec![server]), options)
}

fn addresses(result: Result<Addresses, LookupError>) -> Vec<String> {
    result.unwrap().addresses.iter().map(ToString::to_string).collect()
}

/// Knows one service of the cluster and one bank.
fn cluster(name: &str, kind: RecordType) -> Option<(ResponseCode, Vec<RData>, u32)> {
    match (name, kind) {
        ("api.bank.example.", RecordType::A) => Some((ResponseCode::NoError, vec![address(1), address(2)], 60)),
        ("mono.team.svc.cluster.local.", RecordType::A) => Some((ResponseCode::NoError, vec![address(9)], 5)),
        ("hung.example.", _) => None,
        _ => Some((ResponseCode::NXDomain, vec![], 0)),
    }
}

#[tokio::test]
async fn a_name_is_asked_for_as_in_a_pod() {
    let (server, mut asked) = serve(cluster).await;
    let search = ["team.svc.cluster.local", "svc.cluster.local", "cluster.local"];
    let pod = servers(server, &search, 5, "");
    let found = pod.lookup("api.bank.example").await.unwrap();
    assert_eq!((found.addresses.len(), found.ttl), (2, Duration::from_mins(1)));
    let names: Vec<_> = std::iter::from_fn(|| asked.try_recv().ok()).collect();
    assert_eq!(names.first().unwrap(), "api.bank.example.team.svc.cluster.local.");
    assert_eq!((names.len(), names.last().unwrap().as_str()), (4, "api.bank.example."));
    assert_eq!(addresses(pod.lookup("mono").await), ["192.0.2.9"]);
    assert_eq!(addresses(pod.lookup("mono.team.svc").await), ["192.0.2.9"]);
}

#[tokio::test]
async fn a_fully_qualified_name_or_one_with_enough_dots_is_asked_for_as_it_is() {
    let (server, mut asked) = serve(cluster).await;
    let node = servers(server, &["lan"], 1, "");
    for name in ["api.bank.example", "api.bank.example."] {
        assert_eq!(addresses(node.lookup(name).await), ["192.0.2.1", "192.0.2.2"], "{name}");
        assert_eq!(asked.recv().await.unwrap(), "api.bank.example.");
    }
}

#[tokio::test]
async fn a_static_name_needs_no_server() {
    let (server, mut asked) = serve(|_, _| None).await;
    let hosts = "10.1.2.3 mono.internal mono # comment\nfd00::1 mono.internal\n";
    let pod = servers(server, &["team.svc.cluster.local"], 5, hosts);
    assert_eq!(addresses(pod.lookup("mono.internal").await), ["10.1.2.3", "fd00::1"]);
    assert_eq!(addresses(pod.lookup("mono").await), ["10.1.2.3"]);
    assert!(asked.try_recv().is_err());
}

#[tokio::test]
async fn no_such_name_and_no_answer_are_different() {
    let (server, _asked) = serve(cluster).await;
    let node = servers(server, &[], 1, "");
    assert!(matches!(node.lookup("absent.example").await, Err(LookupError::NotFound { .. })));
    assert_eq!(node.lookup("hung.example").await, Err(LookupError::Failed));
    let (server, _asked) = serve(|_, _| Some((ResponseCode::ServFail, vec![], 0))).await;
    assert_eq!(servers(server, &[], 1, "").lookup("api.bank.example").await, Err(LookupError::Failed));
    assert!(matches!(node.lookup("not a name..").await, Err(LookupError::NotFound { .. })));
}

#[tokio::test]
async fn a_silent_answer_for_one_address_family_does_not_lose_the_other() {
    let (server, _asked) = serve(|_, kind| match kind {
        RecordType::A => Some((ResponseCode::NoError, vec![address(7)], 60)),
        _ => None,
    })
    .await;
    assert_eq!(addresses(servers(server, &[], 1, "").lookup("api.bank.example").await), ["192.0.2.7"]);
}
