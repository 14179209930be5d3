//! The effective configuration and the schema, as TOML with comments.

use super::problem::Origin;
use super::schema::{self, Change, Key};
use super::values::Values;
use std::fmt::Write as _;

/// Every value as TOML, each with where it comes from. Reads back as the same configuration,
/// secrets aside.
pub fn effective(values: &Values) -> String {
    let mut out = String::from("# Effective configuration. Behind each value: where it comes from.\n");
    let mut section = "";
    for key in schema::KEYS {
        heading(&mut out, &mut section, key);
        let name = key.path.rsplit('.').next().unwrap_or(key.path);
        line(&mut out, name, &values.shown(key.path), &values.origin(key.path));
    }
    for (listener, origin) in values.listeners() {
        out.push_str("\n[[listener]]\n");
        line(&mut out, "name", &format!("\"{listener}\""), origin);
        for key in schema::LISTENER_KEYS {
            let path = format!("listener.{listener}.{}", key.path);
            line(&mut out, key.path, &values.shown(&path), &values.origin(&path));
        }
    }
    out
}

/// All keys with their defaults and what they are for; with `part`, those that have it in their
/// path. `None`: none has.
pub fn schema(part: Option<&str>) -> Option<String> {
    let part = part.unwrap_or_default();
    let keys = schema::KEYS.iter().filter(|key| key.path.contains(part));
    let of_listeners =
        schema::LISTENER_KEYS.iter().filter(|key| format!("listener.{}", key.path).contains(part));
    let (keys, of_listeners): (Vec<&Key>, Vec<&Key>) = (keys.collect(), of_listeners.collect());
    if keys.is_empty() && of_listeners.is_empty() {
        return None;
    }
    let mut out = String::from(
        "# All keys with their defaults. In the environment, io.backend is GATEWAY_IO__BACKEND; as a flag,\n\
         # --set io.backend=epoll; a key of the listener named tcp is GATEWAY_LISTENER__TCP__ADDRESS.\n\
         # (reload): SIGHUP applies a change. (secret): by environment or file only.\n",
    );
    let mut section = "";
    for key in keys {
        heading(&mut out, &mut section, key);
        describe(&mut out, key);
    }
    if of_listeners.is_empty() {
        return Some(out);
    }
    out.push_str("\n# Once for each listener. Without any: tcp on 127.0.0.1:3101, websocket on 127.0.0.1:3102.\n[[listener]]\n");
    out.push_str("# 1 to 32 of a-z, 0-9 and _. A label in metrics.\nname = \"tcp\"\n");
    for key in of_listeners {
        describe(&mut out, key);
    }
    Some(out)
}

fn heading<'a>(out: &mut String, section: &mut &'a str, key: &'a Key) {
    let own = key.path.split('.').next().unwrap_or_default();
    if own != *section {
        *section = own;
        let _ = writeln!(out, "\n[{own}]");
    }
}

fn describe(out: &mut String, key: &Key) {
    let mark = match key.change {
        Change::Restart => "",
        Change::Reload => " (reload)",
        Change::SecretReload => " (reload, secret)",
    };
    let name = key.path.rsplit('.').next().unwrap_or(key.path);
    let _ = writeln!(out, "# {}{mark}\n# Expected: {}", key.help, key.kind.expected());
    let _ = match key.kind.parse(key.default) {
        Ok(value) => writeln!(out, "{name} = {value}"),
        Err(_) => writeln!(out, "{name} = \"0.0.0.0:3101\""),
    };
}

fn line(out: &mut String, name: &str, value: &str, origin: &Origin) {
    let assignment = format!("{name} = {value}");
    let _ = writeln!(out, "{assignment:<48} # {origin}");
}
