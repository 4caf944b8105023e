//! The language of gdnsd's configuration: `key => value` within braces, lists within brackets, `#` and `;` for comments.
//!
//! It is read into the same nodes as YAML, which know where they stand.

use std::sync::Arc;

use crate::finding::{At, Findings, Source};
use crate::yaml::{Content, Node};

/// Deeper than any configuration is.
const DEEPEST: usize = 24;

/// Reads a whole file: a mapping, with or without braces around it. None, and a finding, where it is none.
pub fn read(source: &Arc<Source>, findings: &mut Findings) -> Option<Node> {
    let mut reader = Reader { source, text: &source.text, offset: 0, line: 1, column: 1 };
    let root = reader.skip_space().and_then(|()| match reader.peek() {
        Some('{') => reader.value(0),
        _ => {
            let at = reader.at();
            reader.entries(None, 0).map(|content| Node { at, content })
        }
    });
    root.map_err(|(at, text)| findings.error(&at, text)).ok()
}

struct Reader<'s> {
    source: &'s Arc<Source>,
    text: &'s str,
    offset: usize,
    line: u32,
    column: u32,
}

type Refusal = (At, String);

impl Reader<'_> {
    fn at(&self) -> At {
        At::new(self.source, self.line, self.column)
    }

    fn refuse<T>(&self, text: &str) -> Result<T, Refusal> {
        Err((self.at(), text.to_owned()))
    }

    fn peek(&self) -> Option<char> {
        self.text[self.offset..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let letter = self.peek()?;
        self.offset += letter.len_utf8();
        (self.line, self.column) =
            if letter == '\n' { (self.line + 1, 1) } else { (self.line, self.column + 1) };
        Some(letter)
    }

    /// White space, comments, and what may stand between entries.
    fn skip_space(&mut self) -> Result<(), Refusal> {
        while let Some(letter) = self.peek() {
            match letter {
                '#' | ';' => {
                    while self.peek().is_some_and(|letter| letter != '\n') {
                        self.next();
                    }
                }
                ',' => {
                    self.next();
                }
                letter if letter.is_whitespace() => {
                    self.next();
                }
                '$' => return self.refuse("what $include names is not read; give all in one file"),
                _ => break,
            }
        }
        Ok(())
    }

    /// Up to the closing brace, or to the end of the file.
    fn entries(&mut self, close: Option<char>, depth: usize) -> Result<Content, Refusal> {
        let mut entries: Vec<(Node, Node)> = Vec::new();
        loop {
            self.skip_space()?;
            if self.peek() == close {
                self.next();
                return Ok(Content::Mapping(entries));
            }
            let key = self.scalar()?;
            self.skip_space()?;
            if self.next() != Some('=') {
                return self.refuse("=> is expected between a key and its value");
            }
            if self.peek() == Some('>') {
                self.next();
            }
            self.skip_space()?;
            let value = self.value(depth + 1)?;
            entries.push((key, value));
        }
    }

    fn value(&mut self, depth: usize) -> Result<Node, Refusal> {
        if depth > DEEPEST {
            return self.refuse("nested too deep");
        }
        let at = self.at();
        match self.peek() {
            Some('{') => {
                self.next();
                let content = self.entries(Some('}'), depth)?;
                Ok(Node { at, content })
            }
            Some('[') => {
                self.next();
                let mut items = Vec::new();
                loop {
                    self.skip_space()?;
                    if self.peek() == Some(']') {
                        self.next();
                        return Ok(Node { at, content: Content::Sequence(items) });
                    }
                    items.push(self.value(depth + 1)?);
                }
            }
            _ => self.scalar(),
        }
    }

    fn scalar(&mut self) -> Result<Node, Refusal> {
        let at = self.at();
        let mut text = String::new();
        let quote = self.peek().filter(|letter| matches!(letter, '"' | '\''));
        if quote.is_some() {
            self.next();
        }
        loop {
            let ends = |letter: char| match quote {
                Some(quote) => letter == quote,
                None => {
                    letter.is_whitespace()
                        || matches!(letter, ',' | ';' | '=' | '>' | '{' | '}' | '[' | ']' | '#')
                }
            };
            match self.peek() {
                Some(letter) if ends(letter) => break,
                None if quote.is_none() => break,
                None => return self.refuse("a quoted text without its end"),
                Some('\\') => {
                    self.next();
                    text.push(self.escape()?);
                }
                Some(letter) => {
                    self.next();
                    text.push(letter);
                }
            }
        }
        if quote.is_some() {
            self.next();
        } else if text.is_empty() {
            return self.refuse("a text is expected here");
        }
        Ok(Node { at, content: Content::Scalar { text, is_plain: quote.is_none() } })
    }

    /// `\065`, or a letter that stands for itself.
    fn escape(&mut self) -> Result<char, Refusal> {
        let digits: String = self.text[self.offset..].chars().take(3).collect();
        if digits.len() == 3 && digits.bytes().all(|octet| octet.is_ascii_digit()) {
            (0..3).for_each(|_| {
                self.next();
            });
            return match digits.parse::<u8>() {
                Ok(octet) => Ok(char::from(octet)),
                Err(_) => self.refuse("an escape is three digits up to 255"),
            };
        }
        match self.next() {
            Some(letter) => Ok(letter),
            None => self.refuse("an escape without its end"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> String {
        let mut findings = Findings::new();
        read(&Source::new("config", text), &mut findings);
        findings
            .iter()
            .map(|finding| format!("{}:{}: {}", finding.line, finding.column, finding.text))
            .collect()
    }

    #[test]
    fn braces_brackets_quotes_and_comments_are_read() {
        let text = "a => { b = [1, 'x y', \"\\065\\\"\"] } # c\nd => e ; f\n";
        let mut findings = Findings::new();
        let root = read(&Source::new("config", text), &mut findings).unwrap();
        assert_eq!(findings.to_string(), "");
        let root = root.mapping("", &mut findings).unwrap();
        let list = root.get("a").unwrap().mapping("", &mut findings).unwrap().get("b").unwrap();
        let texts: Vec<_> = list.items().iter().filter_map(Node::scalar).collect();
        assert_eq!(texts, ["1", "x y", "A\""]);
        let last = root.get("d").unwrap();
        assert_eq!((last.scalar(), last.at.line, last.at.column), (Some("e"), 2, 6));
    }

    #[test]
    fn what_is_no_configuration_is_refused_with_a_place() {
        assert_eq!(told("a => {\n b"), "2:3: => is expected between a key and its value");
        assert_eq!(told("a => \"b"), "1:8: a quoted text without its end");
        assert_eq!(told("a => }"), "1:6: a text is expected here");
        assert_eq!(told("$include{x}"), "1:1: what $include names is not read; give all in one file");
        assert!(told(&format!("a => {}", "[".repeat(100))).contains("nested too deep"));
    }
}
