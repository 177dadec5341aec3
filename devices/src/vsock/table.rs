//! The bounded table of connections, by name and by ports, and the round robin over those with something to send.

use std::collections::{HashMap, VecDeque};

use super::connection::{Connection, GuestSide, Ports};
use super::{ConnId, HostStream, spec};

#[derive(Default)]
pub(super) struct Table {
    connections: HashMap<ConnId, Connection>,
    by_ports: HashMap<Ports, ConnId>,
    turns: VecDeque<ConnId>,
    last_id: u64,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.connections.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.connections.len() >= spec::MAX_CONNECTIONS
    }

    /// A name for the next connection.
    pub(super) fn next_id(&mut self) -> ConnId {
        self.last_id = self.last_id.wrapping_add(1);
        ConnId(self.last_id)
    }

    pub(super) fn insert(&mut self, id: ConnId, ports: Ports, guest: GuestSide, stream: Box<dyn HostStream>) {
        self.by_ports.insert(ports, id);
        self.connections.insert(id, Connection::new(ports, guest, stream));
        self.schedule(id);
    }

    pub(super) fn find(&self, ports: Ports) -> Option<ConnId> {
        self.by_ports.get(&ports).copied()
    }

    pub(super) fn get_mut(&mut self, id: ConnId) -> Option<&mut Connection> {
        self.connections.get_mut(&id)
    }

    /// Puts the connection in line if it has something to send and is not in line, and drops it if it is over.
    pub(super) fn schedule(&mut self, id: ConnId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.is_over() {
            self.forget(id);
        } else if connection.wants_turn() && !connection.queued {
            connection.queued = true;
            self.turns.push_back(id);
        }
    }

    /// Connections in line.
    #[cfg(test)]
    pub(super) fn in_line(&self) -> usize {
        self.turns.len()
    }

    pub(super) fn has_turns(&self) -> bool {
        !self.turns.is_empty()
    }

    /// The connection whose turn it is.
    pub(super) fn take_turn(&mut self) -> Option<ConnId> {
        while let Some(id) = self.turns.pop_front() {
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.queued = false;
                return Some(id);
            }
        }
        None
    }

    /// The guest's side of the connection ends: its ports are free, and it stays only while data drains to the host.
    pub(super) fn leave_guest(&mut self, id: ConnId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.guest != GuestSide::Gone {
            self.by_ports.remove(&connection.ports);
            connection.leave_guest();
        }
        self.schedule(id);
    }

    /// The connection ends for both sides at once. Gives its ports if the guest knows of it.
    pub(super) fn remove(&mut self, id: ConnId) -> Option<Ports> {
        let connection = self.forget(id)?;
        if connection.guest == GuestSide::Gone {
            return None;
        }
        self.by_ports.remove(&connection.ports);
        (connection.guest != GuestSide::Requested { told: false }).then_some(connection.ports)
    }

    /// Keeps the line free of names that are gone, or a guest could make it grow.
    fn forget(&mut self, id: ConnId) -> Option<Connection> {
        let connection = self.connections.remove(&id)?;
        if connection.queued {
            self.turns.retain(|other| *other != id);
        }
        Some(connection)
    }

    /// Drops everything; names go on from where they were.
    pub(super) fn clear(&mut self) {
        let Self { connections, by_ports, turns, last_id: _ } = self;
        connections.clear();
        by_ports.clear();
        turns.clear();
    }
}
