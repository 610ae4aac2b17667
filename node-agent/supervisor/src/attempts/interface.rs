//! Through which of this host's network interfaces another node is reached: by the kernel's routes, longest prefix first.
//! Bounded in time, because names of hosts may be asked of a server that does not answer, and remembered for a while.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, ToSocketAddrs};
use std::sync::mpsc;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a name may take to resolve.
const RESOLVE_TIME: Duration = Duration::from_secs(2);
/// How long an answer holds: interfaces rarely change while jobs run.
const KEPT: Duration = Duration::from_secs(600);
/// Nodes that are remembered.
const NODES_MAX: usize = 4096;
/// Routes that are read.
const ROUTES_MAX: usize = 4096;
/// `RTF_UP`: the route is usable (linux/route.h).
const USABLE: u32 = 1;

/// The interfaces to other nodes, as far as they were asked for.
#[derive(Debug, Default)]
pub(super) struct Interfaces(Mutex<BTreeMap<String, (Instant, Option<String>)>>);

impl Interfaces {
    /// The one interface through which all of `nodes` are reached; `None` when there is none, or more than one. Blocks.
    pub(super) fn to_all<'a>(&self, nodes: impl IntoIterator<Item = &'a str>) -> Option<String> {
        let mut only = None;
        for node in nodes {
            let found = self.to(node)?;
            if only.get_or_insert_with(|| found.clone()) != &found {
                return None;
            }
        }
        only
    }

    fn to(&self, node: &str) -> Option<String> {
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((asked, found)) = known().get(node)
            && asked.elapsed() < KEPT
        {
            return found.clone();
        }
        let address = resolve(node);
        let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
        let found = address.and_then(|address| through(&routes, address));
        let mut all = known();
        if all.len() >= NODES_MAX {
            all.clear();
        }
        all.insert(node.to_owned(), (Instant::now(), found.clone()));
        found
    }
}

/// The first IPv4 address of a node other than loopback.
fn resolve(node: &str) -> Option<Ipv4Addr> {
    let (answer, answered) = mpsc::channel();
    let name = node.to_owned();
    // A resolver that does not answer keeps its thread until it gives up by itself.
    std::thread::spawn(move || {
        let found = (name.as_str(), 0).to_socket_addrs();
        // Nobody waits any more.
        let _late = answer.send(found.map(Iterator::collect::<Vec<_>>));
    });
    let found = answered.recv_timeout(RESOLVE_TIME).ok()?.ok()?;
    found.into_iter().find_map(|address| match address.ip() {
        IpAddr::V4(address) if !address.is_loopback() => Some(address),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    })
}

/// The interface of the route of the longest prefix, of several the one of the least metric. `routes` is
/// `/proc/net/route`: numbers in hexadecimal, addresses in the host's byte order.
fn through(routes: &str, address: Ipv4Addr) -> Option<String> {
    let address = u32::from_ne_bytes(address.octets());
    let fitting = routes.lines().skip(1).take(ROUTES_MAX).filter_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [interface, target, _, flags, _, _, metric, mask, ..] = words[..] else {
            return None;
        };
        let hex = |word| u32::from_str_radix(word, 16).ok();
        let (target, mask) = (hex(target)?, hex(mask)?);
        let is_usable = hex(flags)? & USABLE != 0;
        let metric: u32 = metric.parse().ok()?;
        let fits = is_usable && address & mask == target & mask;
        fits.then(|| (mask.count_ones(), std::cmp::Reverse(metric), interface))
    });
    let best = fitting.max();
    best.map(|(_, _, interface)| interface.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two cards in one network, one of them preferred; InfiniBand beside them; everything else by the first.
    const ROUTES: &str = "\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0100000A\t0003\t0\t0\t100\t00000000\t0\t0\t0
eth0\t0000000A\t00000000\t0001\t0\t0\t100\t000000FF\t0\t0\t0
eth1\t0000000A\t00000000\t0001\t0\t0\t50\t000000FF\t0\t0\t0
ib0\t00010A0A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
down0\t00020A0A\t00000000\t0000\t0\t0\t0\t00FFFFFF\t0\t0\t0
";

    #[test]
    #[cfg(target_endian = "little")]
    fn the_longest_prefix_counts_and_then_the_least_metric() {
        let check = |address: [u8; 4], expected: &str| {
            let found = through(ROUTES, Ipv4Addr::from(address));
            assert_eq!(found.as_deref(), Some(expected), "{address:?}");
        };
        check([192, 168, 1, 1], "eth0");
        check([10, 9, 1, 1], "eth1");
        check([10, 10, 1, 7], "ib0");
        check([10, 10, 2, 7], "eth1");
        assert_eq!(through("", Ipv4Addr::LOCALHOST), None);
    }

    #[test]
    fn a_node_on_this_very_host_is_reached_through_none() {
        let interfaces = Interfaces::default();
        assert_eq!(interfaces.to_all(["localhost"]), None);
        assert_eq!(interfaces.to_all([]), None);
    }
}
