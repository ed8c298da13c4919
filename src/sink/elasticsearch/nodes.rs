//! Which node gets the next request: round robin over those that answered last. Pure: the clock is
//! the caller's.

use std::time::{Duration, Instant};

/// How long a node that did not answer is passed over; it is still asked when all are.
const REST_OF_A_DEAD_NODE: Duration = Duration::from_secs(30);

/// The nodes in the order of the settings.
#[derive(Debug)]
pub struct Nodes {
    dead_until: Vec<Option<Instant>>,
    following: usize,
}

impl Nodes {
    /// `count` nodes, all alive.
    pub fn new(count: usize) -> Self {
        Self { dead_until: vec![None; count], following: 0 }
    }

    /// The position of the node to ask: the next one alive, else the one dead for longest; 0 if
    /// there are no nodes.
    pub fn choose(&mut self, now: Instant) -> usize {
        let count = self.dead_until.len().max(1);
        let order = (0..count).map(|step| (self.following + step) % count);
        let alive = order.clone().find(|node| self.is_alive(*node, now));
        let chosen = alive
            .or_else(|| order.min_by_key(|node| self.dead_until.get(*node).copied().flatten()))
            .unwrap_or(0);
        self.following = (chosen + 1) % count;
        chosen
    }

    /// The node did not answer.
    pub fn failed(&mut self, node: usize, now: Instant) {
        if let Some(dead_until) = self.dead_until.get_mut(node) {
            *dead_until = Some(now + REST_OF_A_DEAD_NODE);
        }
    }

    /// The node answered, whatever it said.
    pub fn answered(&mut self, node: usize) {
        if let Some(dead_until) = self.dead_until.get_mut(node) {
            *dead_until = None;
        }
    }

    fn is_alive(&self, node: usize, now: Instant) -> bool {
        self.dead_until.get(node).is_some_and(|until| until.is_none_or(|until| until <= now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_take_turns() {
        let (mut nodes, now) = (Nodes::new(3), Instant::now());
        let turns: Vec<usize> = (0..5).map(|_| nodes.choose(now)).collect();
        assert_eq!(turns, [0, 1, 2, 0, 1]);
    }

    #[test]
    fn a_node_that_failed_is_passed_over_for_a_while() {
        let (mut nodes, now) = (Nodes::new(2), Instant::now());
        nodes.failed(0, now);
        assert_eq!([nodes.choose(now), nodes.choose(now)], [1, 1]);
        let later = now + REST_OF_A_DEAD_NODE;
        assert_eq!([nodes.choose(later), nodes.choose(later)], [0, 1]);
    }

    #[test]
    fn when_all_are_dead_the_one_that_rested_longest_is_asked() {
        let (mut nodes, now) = (Nodes::new(2), Instant::now());
        nodes.failed(1, now);
        nodes.failed(0, now + Duration::from_secs(1));
        assert_eq!(nodes.choose(now + Duration::from_secs(2)), 1);
        nodes.answered(0);
        assert_eq!(nodes.choose(now + Duration::from_secs(3)), 0);
    }
}
