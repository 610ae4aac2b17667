//! Who dials from this host. Any user of the server's host can reach a loopback port and say that it is a node, and
//! would then be given other people's scripts; the kernel's table of connections tells whose socket it is. Only root's
//! and the server's own user's are let in. Connections from other hosts are the site's network's to guard, until
//! agents join with certificates.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::unistd::Uid;

/// Whether an agent may come from `peer`, connected to our `own` address. Reads `/proc`: may block for a moment.
pub(super) fn may_attach(peer: SocketAddr, own: SocketAddr) -> bool {
    let (peer, own) = (canonical(peer), canonical(own));
    // A dual-stack listener's connections stand in the table of IPv6, whatever the peer dialled.
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].into_iter();
    let mut texts = tables.filter_map(|path| std::fs::read_to_string(path).ok());
    // Whatever address a process of this host has bound, its end is in the table; one of another host is not.
    match texts.find_map(|text| owner(&text, peer, own)) {
        Some(uid) => uid == 0 || uid == Uid::effective().as_raw(),
        None => !peer.ip().is_loopback(),
    }
}

/// The uid that owns the end at `local` of the connection between `local` and `remote`, by a table as the kernel
/// writes it: `sl local_address rem_address st tx:rx tr:tm retrnsmt uid …`.
fn owner(table: &str, local: SocketAddr, remote: SocketAddr) -> Option<u32> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let is_it = address(fields.next()?)? == local && address(fields.next()?)? == remote;
        is_it.then(|| fields.nth(4)?.parse().ok()).flatten()
    })
}

/// `0100007F:1F90`: words of the address in the host's byte order, the port as a number.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| u32::from_str_radix(address.get(at..at + 8)?, 16).ok();
    let ip = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?.to_ne_bytes())),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?].map(u32::to_ne_bytes);
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(canonical(SocketAddr::new(ip, port)))
}

/// An IPv4 address as such, even when it came in IPv6's clothes.
fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
         \x20  0: 0100007F:3A9B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1\n\
         \x20  1: 0100007F:C350 0100007F:3A9B 01 00000000:00000000 00:00000000 00000000  3001        0 2\n\
         \x20  2: 0100007F:3A9B 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 3\n";

    fn check(table: &str, local: &str, remote: &str, expected: Option<u32>) {
        let seen = owner(table, local.parse().unwrap(), remote.parse().unwrap());
        assert_eq!(seen, expected, "{local} {remote}");
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn the_owner_is_that_of_the_peers_end() {
        check(TABLE, "127.0.0.1:50000", "127.0.0.1:15003", Some(3001));
        check(TABLE, "127.0.0.1:15003", "127.0.0.1:50000", Some(0));
        check(TABLE, "127.0.0.1:50001", "127.0.0.1:15003", None);
        let six = "head\n 0: 0000000000000000FFFF00000100007F:C350 \
                   0000000000000000FFFF00000100007F:3A9B 01 0:0 0:0 0 7 0 2\n";
        check(six, "127.0.0.1:50000", "127.0.0.1:15003", Some(7));
        for broken in [
            "",
            "head\nx",
            "head\n0: 1 2 3",
            "head\n0: 0100007F:C350 zz:1",
        ] {
            check(broken, "127.0.0.1:50000", "127.0.0.1:15003", None);
        }
    }

    #[test]
    fn our_own_connections_are_let_in_and_closed_ones_are_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap();
        let stream = TcpStream::connect(own).unwrap();
        let peer = stream.local_addr().unwrap();
        assert!(may_attach(peer, own));
        let nobody = SocketAddr::new(peer.ip(), 1);
        assert!(!may_attach(nobody, own));
        assert!(
            may_attach("192.0.2.1:50000".parse().unwrap(), own),
            "not this host's to judge"
        );
    }
}
