//! Addresses to listen on: an IP address or a host name, with a port.

use serde::{Deserialize, Deserializer, de::Error};
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};

/// Deserialises an address. `localhost` is 127.0.0.1; any other host name is resolved, and its
/// first address is used.
pub(super) fn deserialize_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    parse_address(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let invalid = || {
        "write ADDRESS:PORT, such as 127.0.0.1:8080, [::1]:8080 or localhost:8080; 0.0.0.0 is every interface"
            .to_owned()
    };
    let (host, port) = text.rsplit_once(':').ok_or_else(invalid)?;
    let port: u16 = port.parse().map_err(|_| invalid())?;
    let is_host_name =
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    // Text of digits and dots that is not an IP address is most likely a typing error, so it is
    // rejected. Some resolvers would accept it, and read `1.2` as 1.0.0.2.
    if !is_host_name || !host.bytes().any(|byte| byte.is_ascii_alphabetic()) {
        return Err(invalid());
    }
    if host.eq_ignore_ascii_case("localhost") {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    let mut addresses =
        (host, port).to_socket_addrs().map_err(|_| format!("the host name {host} cannot be resolved"))?;
    addresses.next().ok_or_else(|| format!("the host name {host} has no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_addresses_and_names() {
        for (text, address) in
            [("127.0.0.1:80", "127.0.0.1:80"), ("[::1]:0", "[::1]:0"), ("localhost:8080", "127.0.0.1:8080")]
        {
            assert_eq!(parse_address(text).unwrap(), address.parse().unwrap(), "{text}");
        }
        for text in [
            "",
            "8080",
            ":8080",
            "localhost",
            "localhost:",
            "localhost:99999",
            "1.2:80",
            "999.0.0.1:80",
            "http://localhost:80",
            "a b:1",
        ] {
            assert!(parse_address(text).unwrap_err().starts_with("write ADDRESS:PORT"), "{text}");
        }
        assert_eq!(
            parse_address("no-such-host.invalid:1").unwrap_err(),
            "the host name no-such-host.invalid cannot be resolved"
        );
    }
}
