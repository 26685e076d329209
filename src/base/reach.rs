//! Which of the addresses behind a name may be connected to, and what is one address?
//!
//! Whoever answers for a provider's name (a resolver of the network, a domain that was let go) could
//! send its key to a machine inside: to the metadata service, to a database, to this host (threat
//! P6). So the configuration says what a name may stand for:
//!
//! * a name by `https://` stands for addresses out in the world, unless the file says that the provider
//!   is inside (`deny_private_ips: false`);
//! * `localhost`, and every name below it, stands for this machine;
//! * a name by `http://`, which had to be allowed with `allow_plaintext`, stands for anything, for such
//!   a name is nearly always one of the own network; `deny_private_ips: true` says otherwise.
//!
//! An address that is written out was the operator's own choice and is not asked about. Judged is what
//! was *resolved*, each time it is. An IPv4 address inside an IPv6 one (mapped, NAT64, 6to4) is judged
//! as what it is: a network of IPv6 alone reaches the world through them.
//!
//! Sources: IANA's registries of special-purpose addresses (RFC 6890), RFC 6052 (NAT64), RFC 3056
//! (6to4), RFC 6761 section 6.3 (`localhost`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What the addresses behind a name may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Anything.
    Anywhere,
    /// Out in the world.
    Public,
    /// This machine.
    Loopback,
}

impl Reach {
    /// Returns what a host may stand for; `denies` is what the file says of inner addresses.
    #[must_use]
    pub fn of(host: &str, is_tls: bool, denies: Option<bool>) -> Reach {
        let is_own = is_localhost(host);
        match denies {
            Some(true) | None if is_own => Reach::Loopback,
            Some(true) => Reach::Public,
            None if is_tls => Reach::Public,
            Some(false) | None => Reach::Anywhere,
        }
    }

    /// Tells whether an address that was resolved may be used.
    #[must_use]
    pub fn admits(self, address: IpAddr) -> bool {
        match self {
            Reach::Anywhere => true,
            Reach::Public => is_public(address),
            Reach::Loopback => address.to_canonical().is_loopback(),
        }
    }
}

/// The part of an IPv6 address that names a network.
const NETWORK: u128 = !0 << 64;

/// Returns what counts as one address of clients: an IPv4 address, or an IPv6 network of 64 bits,
/// which is what one subscriber has.
#[must_use]
pub fn origin_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from(u128::from(ip) & NETWORK)),
        ip @ IpAddr::V4(_) => ip,
    }
}

/// Tells whether a name is this machine's by definition.
#[must_use]
pub fn is_localhost(host: &str) -> bool {
    host == "localhost" || host.ends_with(".localhost")
}

/// Tells whether an address is out in the world: not of this machine, of no inner network, of one
/// machine only.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => match inner(ip) {
            Some(inner) => is_public_v4(inner),
            None => is_public_v6(ip),
        },
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    match a {
        // This network, private, loopback; from 224 on multicast, reserved and broadcast.
        0 | 10 | 127 | 224.. => false,
        // Shared among the customers of a carrier.
        100 => !(64..=127).contains(&b),
        // Link-local, where the clouds have their metadata services.
        169 => b != 254,
        172 => !(16..=31).contains(&b),
        // Private, and what IETF protocols use among themselves.
        192 => b != 168 && !(b == 0 && c == 0),
        _ => true,
    }
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [first, second, ..] = ip.segments();
    match first {
        // Unspecified, loopback, what once stood for IPv4; unique local; link-local, and what was
        // site-local; multicast.
        0 | 0xfc00..=0xfdff | 0xfe80..=0xfeff | 0xff00..=0xffff => false,
        // The NAT64 of a local network.
        0x64 => second != 0xff9b,
        _ => true,
    }
}

/// `64:ff9b::/96` (RFC 6052), without the address in it.
const NAT64: u128 = 0x0064_ff9b << 64;

/// Returns the IPv4 address that an IPv6 one stands for.
fn inner(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let bits = u128::from(ip);
    let v4_at = |shift: u32| u32::try_from(bits >> shift & u128::from(u32::MAX)).ok().map(Ipv4Addr::from);
    match (bits >> 112, bits >> 32) {
        (_, 0xffff | NAT64) => v4_at(0),
        (0x2002, _) => v4_at(80),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_inside_is_told_from_the_world() {
        for (text, want) in [
            ("0.0.0.0", false),
            ("0.1.2.3", false),
            ("1.1.1.1", true),
            ("9.255.255.255", true),
            ("10.0.0.0", false),
            ("10.255.255.255", false),
            ("11.0.0.0", true),
            ("100.63.255.255", true),
            ("100.64.0.0", false),
            ("100.127.255.255", false),
            ("100.128.0.0", true),
            ("127.0.0.1", false),
            ("127.255.255.254", false),
            ("169.253.0.1", true),
            ("169.254.169.254", false),
            ("172.15.255.255", true),
            ("172.16.0.0", false),
            ("172.31.255.255", false),
            ("172.32.0.0", true),
            ("192.0.0.8", false),
            ("192.0.1.1", true),
            ("192.167.1.1", true),
            ("192.168.0.1", false),
            ("192.169.0.1", true),
            ("223.255.255.255", true),
            ("224.0.0.1", false),
            ("240.0.0.1", false),
            ("255.255.255.255", false),
            ("::", false),
            ("::1", false),
            ("::127.0.0.1", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:0.0.0.0", false),
            ("::ffff:169.254.169.254", false),
            ("::ffff:1.1.1.1", true),
            ("64:ff9b::10.0.0.1", false),
            ("64:ff9b::1.1.1.1", true),
            ("64:ff9b:1::1.1.1.1", false),
            ("2002:a00:1::1", false),
            ("2002:101:101::1", true),
            ("2606:4700::1111", true),
            ("fbff::1", true),
            ("fc00::1", false),
            ("fd00:ec2::254", false),
            ("fe7f::1", true),
            ("fe80::1", false),
            ("febf::1", false),
            ("fec0::1", false),
            ("ff02::1", false),
        ] {
            assert_eq!(is_public(text.parse().unwrap()), want, "{text}");
        }
    }

    #[test]
    fn an_address_is_a_host_or_a_network() {
        let at = |text: &str| origin_of(text.parse().unwrap());
        assert_eq!(at("::ffff:192.0.2.1"), at("192.0.2.1"));
        assert_ne!(at("192.0.2.1"), at("192.0.2.2"));
        assert_eq!(at("2001:db8::1"), at("2001:db8::ffff:1:2:3"));
        assert_ne!(at("2001:db8:0:1::1"), at("2001:db8:0:2::1"));
    }

    #[test]
    fn what_a_name_may_stand_for_is_said_by_its_scheme_unless_the_file_says_it() {
        for (host, is_tls, denies, want) in [
            ("api.example", true, None, Reach::Public),
            ("api.example", true, Some(true), Reach::Public),
            ("api.example", true, Some(false), Reach::Anywhere),
            ("box", false, None, Reach::Anywhere),
            ("box", false, Some(true), Reach::Public),
            ("box", false, Some(false), Reach::Anywhere),
            ("localhost", true, None, Reach::Loopback),
            ("a.localhost", false, None, Reach::Loopback),
            ("localhost", false, Some(true), Reach::Loopback),
            ("localhost", true, Some(false), Reach::Anywhere),
            ("localhost.evil.example", true, None, Reach::Public),
        ] {
            assert_eq!(Reach::of(host, is_tls, denies), want, "{host} {is_tls} {denies:?}");
        }
        let admits = |reach: Reach, text: &str| reach.admits(text.parse().unwrap());
        assert!(admits(Reach::Loopback, "127.0.0.2") && admits(Reach::Loopback, "::ffff:127.0.0.1"));
        assert!(!admits(Reach::Loopback, "10.0.0.1") && !admits(Reach::Loopback, "1.1.1.1"));
        assert!(admits(Reach::Anywhere, "169.254.169.254"));
    }
}
