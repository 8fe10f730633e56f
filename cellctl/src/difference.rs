//! Two texts, line by line.

/// Lines compared at most: what is kept of each grows with the product.
const LINES_MAX: usize = 4_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line<'t> {
    Gone(&'t str),
    New(&'t str),
}

/// What of `before` is gone in `after`, and what has come, in the order of the texts: by the longest row of lines that
/// both have, so that a line which also stands elsewhere is not taken for that one.
pub(crate) fn between<'t>(before: &'t str, after: &'t str) -> Vec<Line<'t>> {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let start = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let (old, new) = (&old[start..], &new[start..]);
    let end = old.iter().rev().zip(new.iter().rev()).take_while(|(old, new)| old == new).count();
    let (old, new) = (&old[..old.len() - end], &new[..new.len() - end]);
    if old.len() > LINES_MAX || new.len() > LINES_MAX {
        // All of the middle: much, and nothing is left out.
        return old.iter().map(|line| Line::Gone(line)).chain(new.iter().map(|line| Line::New(line))).collect();
    }
    walk(old, new)
}

fn walk<'t>(old: &[&'t str], new: &[&'t str]) -> Vec<Line<'t>> {
    // `common[i][j]`: lines that `old[i..]` and `new[j..]` have in common.
    let mut common = vec![vec![0_u16; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i][j] = match old[i] == new[j] {
                true => common[i + 1][j + 1] + 1,
                false => common[i + 1][j].max(common[i][j + 1]),
            };
        }
    }
    let (mut lines, mut i, mut j) = (Vec::new(), 0, 0);
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || (i < old.len() && common[i + 1][j] >= common[i][j + 1]) {
            lines.push(Line::Gone(old[i]));
            i += 1;
        } else {
            lines.push(Line::New(new[j]));
            j += 1;
        }
    }
    lines
}

pub(crate) fn print(before: &str, after: &str) {
    for line in between(before, after) {
        match line {
            Line::Gone(line) => println!("- {line}"),
            Line::New(line) => println!("+ {line}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Line::{Gone, New};
    use proptest::prelude::*;

    #[test]
    fn a_line_that_also_stands_elsewhere_is_seen_to_change() {
        let (before, after) = ("region eu\nfull\nregion us\nopen\n", "region eu\nfull\nregion us\nfull\n");
        assert_eq!(between(before, after), [Gone("open"), New("full")]);
        assert_eq!(between("a\nb", "b\na"), [Gone("a"), New("a")]);
        assert_eq!(between("a", "a"), []);
    }

    proptest! {
        /// Taking away what is gone and putting in what is new makes one text of the other.
        #[test]
        fn nothing_is_left_out(before in "[abc\n]{0,40}", after in "[abc\n]{0,40}") {
            let lines = between(&before, &after);
            let (mut kept, mut rest): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
            for line in lines {
                match line {
                    Gone(line) => drop(kept.remove(kept.iter().position(|held| *held == line).unwrap())),
                    New(line) => drop(rest.remove(rest.iter().position(|held| *held == line).unwrap())),
                }
            }
            kept.sort_unstable();
            rest.sort_unstable();
            prop_assert_eq!(kept, rest);
        }
    }
}
