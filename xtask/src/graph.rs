//! Strongly connected components (Tarjan 1972).

use std::collections::{BTreeMap, BTreeSet};

/// The sets of nodes each of which can be reached from every other of its set, where that is more than one.
pub(crate) fn cycles<N: Ord + Clone>(edges: &BTreeMap<N, BTreeSet<N>>) -> Vec<BTreeSet<N>> {
    let mut search = Search { edges, marks: BTreeMap::new(), stack: Vec::new(), found: Vec::new() };
    for node in edges.keys() {
        if !search.marks.contains_key(node) {
            search.visit(node);
        }
    }
    search.found
}

struct Mark {
    index: usize,
    is_on_stack: bool,
}

struct Search<'e, N> {
    edges: &'e BTreeMap<N, BTreeSet<N>>,
    marks: BTreeMap<N, Mark>,
    stack: Vec<N>,
    found: Vec<BTreeSet<N>>,
}

impl<N: Ord + Clone> Search<'_, N> {
    /// The lowest index that can be reached from `node`.
    fn visit(&mut self, node: &N) -> usize {
        let index = self.marks.len();
        self.marks.insert(node.clone(), Mark { index, is_on_stack: true });
        self.stack.push(node.clone());
        let mut lowest = index;
        for next in self.edges.get(node).into_iter().flatten() {
            match self.marks.get(next) {
                None => lowest = lowest.min(self.visit(next)),
                Some(mark) if mark.is_on_stack => lowest = lowest.min(mark.index),
                Some(_) => {}
            }
        }
        if lowest == index {
            let at = self.stack.iter().rposition(|on_stack| on_stack == node).unwrap_or(0);
            let set: BTreeSet<N> = self.stack.drain(at..).collect();
            for member in &set {
                self.marks.entry(member.clone()).and_modify(|mark| mark.is_on_stack = false);
            }
            if set.len() > 1 {
                self.found.push(set);
            }
        }
        lowest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reaches_itself_is_found_and_what_only_leads_there_is_not() {
        let edges = |text: &str| {
            let mut edges: BTreeMap<char, BTreeSet<char>> = BTreeMap::new();
            for edge in text.split(' ') {
                let mut ends = edge.chars();
                edges.entry(ends.next().unwrap()).or_default().extend(ends);
            }
            edges
        };
        assert_eq!(cycles(&edges("ab bc cd")), []);
        assert_eq!(cycles(&edges("ab bc ca cd xa")), [BTreeSet::from(['a', 'b', 'c'])]);
        assert_eq!(
            cycles(&edges("ab ba bc cd dc")),
            [BTreeSet::from(['c', 'd']), BTreeSet::from(['a', 'b'])]
        );
    }
}
