//! Claims on interfaces, checked in the network namespace in which DPDK would make them.

use crate::host::wait_for_turn;
use crate::namespace::ip;
use dpdk_backend::claim::{ClaimError, check_interfaces};

#[test]
fn an_interface_of_this_namespace_is_found_and_a_shared_one_may_be_used() {
    // `/sys` shows the namespace in which it was mounted, so that it has neither of the two.
    let devices = |name: &str| [format!("net_tap0,iface={name}")];
    assert!(check_interfaces(&devices("claimplain")).is_ok(), "not in the namespace of the machine");
    let _turn = wait_for_turn();
    assert!(check_interfaces(&devices("claimplain")).is_ok(), "not yet");
    ip("tuntap add mode tap name claimplain");
    ip("tuntap add mode tap multi_queue name claimshared");
    let plain = check_interfaces(&devices("claimplain"));
    let shared = check_interfaces(&devices("claimshared"));
    ip("link delete claimplain");
    ip("link delete claimshared");
    assert!(matches!(plain, Err(ClaimError::Exists(ref name)) if name == "claimplain"), "{plain:?}");
    assert!(shared.is_ok(), "{shared:?}");
    assert!(check_interfaces(&devices("claimplain")).is_ok(), "gone again");
}
