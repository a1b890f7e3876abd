//! The state of the node in its cluster.

use actix_web::web::{Data, Json};
use serde::Serialize;

use crate::cluster::NodeReport;
use crate::domain::Offset;
use crate::http::schema::problem::Problem;
use crate::http::state::ApiState;

/// The state of a node in its cluster.
#[derive(Debug, Serialize)]
pub(in crate::http) struct ClusterStatus {
    pub(in crate::http) cluster: String,
    pub(in crate::http) node: String,
    pub(in crate::http) offset: Offset,
    /// The last message of the cluster's log that the node has applied.
    pub(in crate::http) sequence: u64,
    /// The last known message of the log.
    pub(in crate::http) last_sequence: u64,
    pub(in crate::http) lag_entries: u64,
    pub(in crate::http) is_cut_off: bool,
    /// The files of the node contain no entry that an erasure or an expiry before this offset removes.
    pub(in crate::http) removed_through: Offset,
    /// The offset after the last request of an erasure or an expiry.
    pub(in crate::http) last_removal: Offset,
    /// No node that runs and no server contains an entry that an erasure or an expiry before this
    /// offset removes.
    pub(in crate::http) erased_through: Offset,
    /// Whether this node publishes the results of its trainings.
    pub(in crate::http) publishes_training: bool,
    /// Whether this node stores the snapshots.
    pub(in crate::http) stores_snapshots: bool,
    /// Why the node is not ready; `None` if it is.
    pub(in crate::http) problem: Option<String>,
    /// The reports of all nodes, this one included.
    pub(in crate::http) nodes: Vec<NodeReport>,
}

impl ClusterStatus {
    /// The state of the node; `None` if the daemon is a single node.
    pub(in crate::http) fn collect(api: &ApiState) -> Option<Self> {
        let status = api.system.cluster.as_ref()?;
        Some(Self {
            cluster: status.cluster.clone(),
            node: status.node.clone(),
            offset: status.applied_offset(),
            sequence: status.applied_sequence(),
            last_sequence: status.last_sequence(),
            lag_entries: status.lag_entries(),
            is_cut_off: status.is_cut_off(),
            removed_through: status.removed_through(),
            last_removal: status.last_removal(),
            erased_through: status.erased_through(),
            publishes_training: status.holds_training_lease(),
            stores_snapshots: status.holds_snapshot_lease(),
            problem: status.not_ready_reason(),
            nodes: status.nodes().to_vec(),
        })
    }
}

/// Returns the state of the node and the reports of the other nodes.
pub(in crate::http) async fn get_cluster(api: Data<ApiState>) -> Result<Json<ClusterStatus>, Problem> {
    let status = ClusterStatus::collect(&api);
    status.map(Json).ok_or_else(|| Problem::conflict("The daemon is a single node: cluster.servers is empty."))
}
