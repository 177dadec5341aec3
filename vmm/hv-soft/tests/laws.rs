//! The laws of the hypervisor seam on the soft back end.

use std::sync::Arc;

use supermachine_hv::HvError;
use supermachine_hv_soft::{Model, SoftHypervisor};

supermachine_hv::hv_laws!(|| Ok::<_, HvError>(Arc::new(SoftHypervisor::new(Model::V2)) as _));
