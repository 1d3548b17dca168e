//! The pages of the documentation: every link leads somewhere, every decision is in the list.

use std::collections::BTreeSet;

use crate::tree::{Breach, File};

/// The list of decisions.
const DECISIONS: &str = "docs/decisions/README.md";

/// All rules of this file.
pub(crate) fn check(files: &[File]) -> Vec<Breach> {
    let pages = files.iter().filter(|file| is_page(file));
    let mut breaches: Vec<Breach> = pages.flat_map(|page| dead_links(page, files)).collect();
    breaches.extend(unlisted_decisions(files));
    breaches
}

fn is_page(file: &File) -> bool {
    file.has_extension("md")
}

/// A link of a page: its line from 1, and where it leads.
type Link<'a> = (usize, &'a str);

fn dead_links(page: &File, files: &[File]) -> Vec<Breach> {
    let dead = links(&page.text).into_iter().filter(|(_, target)| !leads_somewhere(page, target, files));
    dead.map(|(line, target)| {
        Breach::new(&page.path, line, format!("no file or heading {target:?}: mend the link, or write the page"))
    })
    .collect()
}

/// The targets of `[words](target)`, outside code.
fn links(text: &str) -> Vec<Link<'_>> {
    let prose = prose(text).into_iter();
    prose.flat_map(|(line, words)| targets(words).map(move |target| (line, target))).collect()
}

/// The lines outside fenced code, numbered from 1.
fn prose(text: &str) -> Vec<(usize, &str)> {
    let mut fenced = false;
    let mut lines = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            lines.push((at + 1, line));
        }
    }
    lines
}

fn targets(line: &str) -> impl Iterator<Item = &str> {
    let links = line.match_indices("](").filter(|(at, _)| line[..*at].matches('`').count().is_multiple_of(2));
    links.filter_map(|(at, mark)| line[at + mark.len()..].split([')', ' ']).next())
}

fn leads_somewhere(page: &File, target: &str, files: &[File]) -> bool {
    if target.contains("://") || target.starts_with("mailto:") {
        return true;
    }
    let (path, heading) = target.split_once('#').unwrap_or((target, ""));
    let path = if path.is_empty() { page.path.clone() } else { resolve(&page.path, path) };
    match files.iter().find(|file| file.path == path) {
        Some(file) if is_page(file) && !heading.is_empty() => anchors(&file.text).contains(heading),
        Some(_) => true,
        None => files.iter().any(|file| file.path.starts_with(&format!("{}/", path.trim_end_matches('/')))),
    }
}

/// `target`, as a link on the page at `page`, from the root of the checkout.
fn resolve(page: &str, target: &str) -> String {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// What a link to a heading of the page says behind `#`; headings of the same words are numbered.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let headings = prose(text).into_iter().filter_map(|(_, line)| line.strip_prefix('#'));
    for heading in headings {
        let plain = anchor(heading.trim_start_matches('#').trim());
        let numbered = (1..).map(|number| format!("{plain}-{number}"));
        let free = std::iter::once(plain.clone()).chain(numbered).find(|anchor| !found.contains(anchor));
        found.extend(free);
    }
    found
}

/// Lower case, spaces as `-`, other marks left out.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|&c| c.is_alphanumeric() || c == ' ' || c == '-' || c == '_');
    kept.map(|c| if c == ' ' { '-' } else { c }).flat_map(char::to_lowercase).collect()
}

/// Nothing is asked while there is no list.
fn unlisted_decisions(files: &[File]) -> Vec<Breach> {
    let Some(list) = files.iter().find(|file| file.path == DECISIONS) else { return Vec::new() };
    let listed: BTreeSet<String> = links(&list.text).iter().map(|(_, target)| resolve(DECISIONS, target)).collect();
    let decisions = files.iter().filter(|file| file.path.starts_with("docs/decisions/") && file.path != DECISIONS);
    let missing = decisions.filter(|file| !listed.contains(&file.path));
    missing.map(|file| Breach::new(&file.path, 1, format!("not in the list: link it from {DECISIONS}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(pages: &[(&str, &str)]) -> usize {
        let files: Vec<File> = pages.iter().map(|(path, text)| File::new(path, text)).collect();
        check(&files).len()
    }

    #[test]
    fn a_dead_link_is_found() {
        assert_eq!(count(&[("docs/a.md", "[b](b.md)")]), 1);
        assert_eq!(count(&[("docs/a.md", "[b](../b.md#no) [b](#c)"), ("b.md", "# Yes")]), 2);
        assert_eq!(count(&[("docs/a.md", "`[` [b](b.md)")]), 1);
    }

    #[test]
    fn a_live_link_is_not() {
        let b = ("b/b.md", "## The `x.y`: why, and how\n# Yes\n# Yes\n");
        assert_eq!(count(&[("docs/a.md", "[b](../b/b.md#the-xy-why-and-how) [b](../b/b.md#yes-1)"), b]), 0);
        assert_eq!(count(&[("docs/a.md", "[b](../b) [c](https://example.org/x) [a](#d)\n# D")]), 1);
        assert_eq!(count(&[("docs/a.md", "[b](../b/) [c](https://example.org/x) [a](#d)\n# D"), b]), 0);
        assert_eq!(count(&[("docs/a.md", "```\n[b](b.md)\n```\n`[b](b.md)`")]), 0);
    }

    #[test]
    fn a_decision_that_is_not_listed_is_found() {
        let (one, two) = (("docs/decisions/1.md", "# One"), ("docs/decisions/2.md", "# Two"));
        assert_eq!(count(&[one, two]), 0);
        assert_eq!(count(&[one, two, (DECISIONS, "[1](1.md)")]), 1);
        assert_eq!(count(&[one, two, (DECISIONS, "[1](1.md) [2](2.md)")]), 0);
    }
}
