//! Tests of servers.

mod accepting;
mod admission;
mod behind_a_balancer;
mod broken_clients;
mod floods;
mod listen_sockets;
mod memory_budgets;
mod probes_in_logs;
mod request_checks;
mod router;
mod shutdown;
mod stalled_peers;
mod unusual_requests;
mod upgrades;
