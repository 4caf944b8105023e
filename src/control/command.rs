//! What a running server can be told, as a line of JSON: `{"command": "drain", "site": "syd", "lasts": 7200000}`.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::change::Cause;
use crate::health::overrides::{Order, Wish};

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// How are you?
    Status,
    /// Read everything again.
    Reload {
        /// Let go of what is gone, and of what is held.
        force: bool,
        /// Who, and why.
        word: Word,
    },
    /// Serve an earlier snapshot.
    Rollback {
        /// Its number.
        to: u64,
        /// Who, and why.
        word: Word,
    },
    /// Have another process take this one's place.
    Replace,
    /// Take a site out, or put it back.
    Order(Order),
    /// Tell what happens from now on.
    Watch,
}

/// Who says something, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// Who.
    #[serde(default)]
    pub by: String,
}

impl Word {
    /// What it makes of a snapshot.
    #[must_use]
    pub fn cause(self, why: String) -> Cause {
        let told = |text: String| (!text.is_empty()).then_some(text);
        Cause { why, by: told(self.by), reason: told(self.reason) }
    }
}

impl Command {
    /// Who says it, for whoever knows better than they themselves.
    pub fn by(&mut self) -> Option<&mut String> {
        match self {
            Command::Order(order) => Some(&mut order.by),
            Command::Reload { word, .. } | Command::Rollback { word, .. } => Some(&mut word.by),
            Command::Status | Command::Replace | Command::Watch => None,
        }
    }

    /// The line, without its end.
    #[must_use]
    pub fn to_line(&self) -> String {
        match self {
            Command::Status => json!({ "command": "status" }),
            Command::Reload { force, word } => {
                json!({ "command": "reload", "force": force, "reason": word.reason, "by": word.by })
            }
            Command::Rollback { to, word } => {
                json!({ "command": "rollback", "to": to, "reason": word.reason, "by": word.by })
            }
            Command::Watch => json!({ "command": "watch" }),
            Command::Replace => json!({ "command": "replace" }),
            Command::Order(order) => {
                let mut value = json!(order);
                if let Some(members) = value.as_object_mut()
                    && let Some(wish) = members.remove("wish")
                {
                    members.insert("command".to_owned(), wish);
                }
                value
            }
        }
        .to_string()
    }

    /// Reads a line.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn from_line(line: &str) -> Result<Command, String> {
        let mut value: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let name = value.get("command").cloned().unwrap_or_default();
        match name.as_str() {
            Some("status") => return Ok(Command::Status),
            Some("replace") => return Ok(Command::Replace),
            Some("watch") => return Ok(Command::Watch),
            Some("reload") => {
                let force = value.get("force").and_then(Value::as_bool).unwrap_or(false);
                return Ok(Command::Reload { force, word: word(value)? });
            }
            Some("rollback") => {
                let to = value.get("to").and_then(Value::as_u64);
                let to = to.ok_or("rollback: to: is the number of a snapshot")?;
                return Ok(Command::Rollback { to, word: word(value)? });
            }
            _ => {}
        }
        if serde_json::from_value::<Wish>(name.clone()).is_err() {
            return Err(
                "known commands: status, reload, rollback, replace, watch, drain, undrain, force_up, force_down, unforce"
                    .to_owned(),
            );
        }
        value["wish"] = name;
        serde_json::from_value(value).map(Command::Order).map_err(|error| error.to_string())
    }
}

fn word(value: Value) -> Result<Word, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_what_its_line_says() {
        let word = || Word { reason: "r".to_owned(), by: "alice".to_owned() };
        let order = Order {
            wish: Wish::ForceUp,
            site: "syd".to_owned(),
            service: Some("web*".to_owned()),
            lasts: Some(5),
            over: 0,
            reason: "a \"reason\"".to_owned(),
            by: "alice".to_owned(),
            anyway: false,
        };
        for command in [
            Command::Status,
            Command::Reload { force: true, word: word() },
            Command::Rollback { to: 41, word: word() },
            Command::Watch,
            Command::Replace,
            Command::Order(order),
        ] {
            assert_eq!(Command::from_line(&command.to_line()), Ok(command));
        }
    }

    #[test]
    fn what_is_left_out_has_a_default_and_what_is_unknown_is_told() {
        let Ok(Command::Order(order)) = Command::from_line(r#"{"command":"drain","site":"*"}"#) else {
            panic!()
        };
        assert_eq!((order.wish, order.lasts, order.service), (Wish::Drain, None, None));
        assert!(Command::from_line(r#"{"command":"drain"}"#).unwrap_err().contains("site"));
        assert!(Command::from_line(r#"{"command":"dance"}"#).unwrap_err().contains("undrain"));
        assert!(Command::from_line("drain syd").is_err());
    }
}
