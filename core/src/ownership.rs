//! Several mwid on one database: which of them tells the phones of an account.
//!
//! Each node sees the set of live nodes (its *view*). The owner of an account is the node with the
//! highest rendezvous hash of the two names, so a node that comes or goes moves only the accounts
//! that it gains or leaves behind. Nodes do not see a change at the same moment; therefore each
//! makes its view known to the others. What a node loses it lets go at once; what it gains it takes
//! when all live nodes have its own view, for then the one that had it before has let go.

use crate::mailbox::Account;

/// A number that stands for a set of nodes: the same on all nodes and in all versions of mwid.
pub type ViewId = i64;

/// A node as the database shows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// The view that it made known last.
    pub view: ViewId,
}

/// FNV-1a, 64 bits: written out because it must never change.
fn fnv1a(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

/// How much a node is drawn to an account. FNV alone is too regular for names that differ in their
/// last letter only; the mixing is that of MurmurHash3.
fn weight(node: &str, account: &Account) -> u64 {
    let hash = fnv1a(fnv1a(fnv1a(FNV_OFFSET, node.as_bytes()), b"\0"), account.as_str().as_bytes());
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// The owner of an account among these nodes; `None` when there is no node.
#[must_use]
pub fn owner<'a>(nodes: &'a [String], account: &Account) -> Option<&'a str> {
    // Of equal weights the later name wins: the same one everywhere.
    let best = nodes.iter().max_by_key(|node| (weight(node, account), node.as_str()));
    best.map(String::as_str)
}

/// The number of a set of nodes; `nodes` is sorted.
fn view_id(nodes: &[String]) -> ViewId {
    let hash = nodes.iter().fold(FNV_OFFSET, |hash, node| {
        let hash = fnv1a(hash, node.as_bytes());
        fnv1a(hash, b"\0")
    });
    hash.cast_signed()
}

/// Which accounts are this node's.
///
/// Invariant: while every node that is taken for dead has stopped by itself, and each node makes a
/// new view known only after it has been told here, no account is owned by two nodes at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ownership {
    node: String,
    /// The live nodes as they were seen last, sorted.
    current: Vec<String>,
    /// The live nodes when all of them had the same view last, sorted.
    agreed: Vec<String>,
}

impl Ownership {
    /// Owns nothing yet.
    #[must_use]
    pub fn new(node: &str) -> Self {
        Self { node: node.to_owned(), current: Vec::new(), agreed: Vec::new() }
    }

    /// The name of this node.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The live nodes are these now. True when it may own other accounts than before.
    pub fn see(&mut self, nodes: &[Node]) -> bool {
        let before = self.clone();
        let mut names: Vec<String> = nodes.iter().map(|node| node.name.clone()).collect();
        names.sort_unstable();
        names.dedup();
        self.current = names;
        let own = self.view();
        let all = |node: &Node| node.view == own;
        if nodes.iter().all(all) && self.current.contains(&self.node) {
            self.agreed.clone_from(&self.current);
        }
        *self != before
    }

    /// Owns nothing any more: nobody knows whether the others take this node for alive. True when
    /// it may have owned something.
    pub fn lose(&mut self) -> bool {
        let had = !self.agreed.is_empty();
        (self.current, self.agreed) = (Vec::new(), Vec::new());
        had
    }

    /// The number of the current view, to be made known to the others.
    #[must_use]
    pub fn view(&self) -> ViewId {
        view_id(&self.current)
    }

    /// Whether all live nodes had the same view when they were seen last.
    #[must_use]
    pub fn is_agreed(&self) -> bool {
        !self.agreed.is_empty() && self.agreed == self.current
    }

    /// The live nodes, sorted.
    #[must_use]
    pub fn live(&self) -> &[String] {
        &self.current
    }

    /// Whether this node tells the phones of the account: it did when all agreed, and still does.
    #[must_use]
    pub fn owns(&self, account: &Account) -> bool {
        let own = Some(self.node.as_str());
        owner(&self.agreed, account) == own
            && (self.is_agreed() || owner(&self.current, account) == own)
    }

    /// Who is to tell the phones of the account, as far as this node knows.
    #[must_use]
    pub fn owner(&self, account: &Account) -> Option<&str> {
        owner(&self.current, account)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use proptest::prelude::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn accounts(count: usize) -> impl Iterator<Item = Account> {
        (0..count).map(|number| Account::new(&number.to_string(), "example.com").unwrap())
    }

    fn account(text: &str) -> Account {
        text.parse().unwrap()
    }

    /// A version of mwid that hashed otherwise would fight with its neighbours over every account.
    #[test]
    fn the_owner_is_the_same_in_all_versions() {
        let nodes = names(&["vm1", "vm2", "vm3"]);
        let owners: Vec<_> =
            accounts(8).map(|account| owner(&nodes, &account).unwrap().to_owned()).collect();
        assert_eq!(owners, EXPECTED);
        assert_eq!(view_id(&nodes), VIEW);
        assert_eq!(owner(&[], &account("1@a")), None);
    }

    const EXPECTED: [&str; 8] = ["vm2", "vm3", "vm2", "vm3", "vm1", "vm2", "vm3", "vm3"];
    const VIEW: ViewId = 19_132_903_892_738_156;

    #[test]
    fn accounts_are_spread_evenly() {
        let nodes = names(&["vm1.example.com", "vm2.example.com", "vm3.example.com"]);
        let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
        for account in accounts(30_000) {
            *counts.entry(owner(&nodes, &account).unwrap()).or_default() += 1;
        }
        assert!(counts.values().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_node_that_leaves_moves_only_its_own_accounts() {
        let three = names(&["a", "b", "c"]);
        let two = names(&["a", "c"]);
        for account in accounts(1000) {
            let before = owner(&three, &account).unwrap();
            if before != "b" {
                assert_eq!(owner(&two, &account), Some(before));
            }
        }
    }

    fn node(name: &str, view: ViewId) -> Node {
        Node { name: name.into(), view }
    }

    #[test]
    fn what_is_gained_waits_for_the_others_and_what_is_lost_is_let_go_at_once() {
        let (mut old, mut new) = (Ownership::new("a"), Ownership::new("b"));
        old.see(&[node("a", 0)]);
        assert!(!accounts(10).any(|account| old.owns(&account)), "its own view is not known yet");
        let alone = old.view();
        assert!(old.see(&[node("a", alone)]));
        assert!(accounts(100).all(|account| old.owns(&account)));

        // A second node comes; the first has not seen it yet.
        new.see(&[node("a", alone), node("b", 0)]);
        let both = new.view();
        new.see(&[node("a", alone), node("b", both)]);
        assert!(!accounts(100).any(|account| new.owns(&account)), "the first has all of them");

        // Now it has, and lets go at once.
        assert!(old.see(&[node("a", alone), node("b", both)]));
        let kept = accounts(100).filter(|account| old.owns(account)).count();
        assert!((1..100).contains(&kept));
        assert_eq!(old.view(), both);

        assert!(new.see(&[node("a", both), node("b", both)]));
        assert!(old.see(&[node("a", both), node("b", both)]));
        assert!(accounts(100).all(|account| old.owns(&account) != new.owns(&account)));
        assert_eq!(accounts(100).filter(|account| old.owns(account)).count(), kept);
    }

    #[test]
    fn a_node_that_does_not_see_itself_owns_nothing_new() {
        let mut lonely = Ownership::new("a");
        lonely.see(&[node("b", 0)]);
        let view = lonely.view();
        lonely.see(&[node("b", view)]);
        assert!(!accounts(10).any(|account| lonely.owns(&account)));
        assert!(!lonely.lose());
    }

    #[test]
    fn a_lost_lease_loses_everything() {
        let mut node_a = Ownership::new("a");
        node_a.see(&[node("a", 0)]);
        let view = node_a.view();
        node_a.see(&[node("a", view)]);
        assert!(node_a.owns(&account("1@a")) && node_a.lose() && !node_a.owns(&account("1@a")));
    }

    /// The table of nodes, and nodes that look at it, write into it, die and come back, in any
    /// order. A node that dies is taken out of the table only when it has stopped.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// Looks at the table.
        Look,
        /// Writes itself and its view into the table.
        Beat,
        /// Its lease ends: it stops, and then it is seen no more.
        Lapse,
    }

    fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
        let step =
            prop_oneof![4 => Just(Step::Look), 4 => Just(Step::Beat), 1 => Just(Step::Lapse)];
        prop::collection::vec((0..4usize, step), 0..200)
    }

    proptest! {
        #[test]
        fn no_account_ever_has_two_owners(steps in steps()) {
            let all = ["a", "b", "c", "d"];
            let mut nodes = all.map(Ownership::new);
            let mut table: BTreeMap<&str, ViewId> = BTreeMap::new();
            for (index, step) in steps {
                let name = all[index];
                match step {
                    Step::Look if table.contains_key(name) => {
                        let rows: Vec<Node> =
                            table.iter().map(|(name, view)| node(name, *view)).collect();
                        nodes[index].see(&rows);
                    }
                    Step::Look => {}
                    Step::Beat => {
                        table.insert(name, nodes[index].view());
                    }
                    Step::Lapse => {
                        nodes[index].lose();
                        table.remove(name);
                    }
                }
                for account in accounts(12) {
                    let owners = nodes.iter().filter(|node| node.owns(&account)).count();
                    prop_assert!(owners <= 1, "{account}: {nodes:?}");
                }
            }
            // Left alone, they come to agree, and every account has its one owner.
            for _ in 0..3 {
                for (index, name) in all.iter().enumerate() {
                    table.insert(name, nodes[index].view());
                }
                let rows: Vec<Node> =
                    table.iter().map(|(name, view)| node(name, *view)).collect();
                for node in &mut nodes {
                    node.see(&rows);
                }
            }
            for account in accounts(12) {
                let owners = nodes.iter().filter(|node| node.owns(&account)).count();
                prop_assert_eq!(owners, 1);
            }
        }
    }
}
