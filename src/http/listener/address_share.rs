//! Limits the number of connections per client address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::http::rate_limits::client_network;

/// The number of open connections per client address, over all workers of a server.
#[derive(Debug)]
pub(super) struct AddressConnectionCounts {
    max: usize,
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// One open connection in [`AddressConnectionCounts`]. Dropping the slot removes the connection
/// from the counts.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    share: Arc<AddressConnectionCounts>,
    network: IpAddr,
}

/// The address already has its maximum number of connections.
#[derive(Debug)]
pub(super) struct TooManyConnections;

impl AddressConnectionCounts {
    pub(super) fn new(max: usize) -> Self {
        Self { max, open: Mutex::default() }
    }

    /// Counts a new connection of an address. All addresses of an IPv6 /64 network count as one
    /// address.
    ///
    /// # Errors
    /// [`TooManyConnections`] if the address already has the maximum number of connections.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Result<ConnectionSlot, TooManyConnections> {
        let network = client_network(address);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(network).or_default();
        if *count >= self.max {
            return Err(TooManyConnections);
        }
        *count += 1;
        Ok(ConnectionSlot { share: Arc::clone(self), network })
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut open = self.share.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_own_limit() {
        let share = Arc::new(AddressConnectionCounts::new(2));
        let admit = |address: &str| share.admit(address.parse().unwrap());
        let first = admit("192.0.2.1").unwrap();
        let _second = admit("::ffff:192.0.2.1").unwrap();
        assert!(admit("192.0.2.1").is_err());
        let _other = [admit("192.0.2.2").unwrap(), admit("2001:db8::1").unwrap(), admit("2001:db8::2").unwrap()];
        assert!(admit("2001:db8::3").is_err(), "a /64 is one client");
        drop(first);
        admit("192.0.2.1").unwrap();
    }

    #[test]
    fn closed_connections_leave_no_counts_behind() {
        let share = Arc::new(AddressConnectionCounts::new(2));
        drop([share.admit("192.0.2.1".parse().unwrap()).unwrap(), share.admit("192.0.2.2".parse().unwrap()).unwrap()]);
        assert!(share.open.lock().unwrap().is_empty());
    }
}
