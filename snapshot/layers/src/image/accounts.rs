//! Who the user of an image is: `etc/passwd` and `etc/group` of the image, read as docker reads them.

use std::collections::BTreeSet;

use crate::reader::{Stack, StackError};

/// Largest file of users or groups that is read, bytes.
const FILE_MAX: u64 = 4 << 20;
/// Largest id, as docker has it.
const ID_MAX: u32 = i32::MAX as u32;

/// Who runs a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its further groups.
    pub additional_gids: Vec<u32>,
    /// Its home, `/` if there is none known.
    pub home: String,
}

/// A user that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// No such user.
    #[error("user {name:?} is not in the image's etc/passwd")]
    NoUser {
        /// Its name.
        name: String,
    },
    /// No such group.
    #[error("group {name:?} is not in the image's etc/group")]
    NoGroup {
        /// Its name.
        name: String,
    },
    /// A number that is no id.
    #[error("{id} is no id: they are 0 to {ID_MAX}")]
    Id {
        /// The number.
        id: String,
    },
    /// A file of the image.
    #[error("cannot read {path} of the image")]
    File {
        /// Its path.
        path: &'static str,
        /// Why.
        #[source]
        source: StackError,
    },
}

struct Passwd<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// Finds `USER`, `USER:GROUP`, `:GROUP` or nothing, which is root; both parts may be names or numbers.
pub fn user(stack: &Stack, text: &str) -> Result<User, UserError> {
    let read = |path: &'static str| match stack.read(path, FILE_MAX) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()),
        Err(source) => Err(UserError::File { path, source }),
    };
    find(text, &read("/etc/passwd")?, &read("/etc/group")?)
}

fn find(text: &str, passwd: &str, group: &str) -> Result<User, UserError> {
    let (user, wanted_group) = text.split_once(':').unwrap_or((text, ""));
    let wanted = if user.is_empty() { "0" } else { user };
    let known =
        passwd.lines().filter_map(Passwd::parse).find(|one| one.name == wanted || one.uid.to_string() == wanted);
    let mut found = match &known {
        Some(known) => {
            User { uid: known.uid, gid: known.gid, additional_gids: Vec::new(), home: known.home.to_owned() }
        }
        None => {
            let no_user = || UserError::NoUser { name: wanted.to_owned() };
            User { uid: id(wanted).ok_or_else(no_user)??, gid: 0, additional_gids: Vec::new(), home: String::new() }
        }
    };
    if found.home.is_empty() {
        found.home = "/".to_owned();
    }
    let mut groups = group.lines().filter_map(Group::parse);
    if !wanted_group.is_empty() {
        let known = groups.find(|one| one.name == wanted_group || one.gid.to_string() == wanted_group);
        let no_group = || UserError::NoGroup { name: wanted_group.to_owned() };
        found.gid = match known {
            Some(known) => known.gid,
            None => id(wanted_group).ok_or_else(no_group)??,
        };
    } else if let Some(known) = &known {
        let member = |one: &Group<'_>| one.members.split(',').any(|name| name.trim() == known.name);
        let gids: BTreeSet<u32> = groups.filter(member).map(|one| one.gid).collect();
        found.additional_gids = gids.into_iter().collect();
    }
    Ok(found)
}

/// A number as an id; nothing if it is none.
fn id(text: &str) -> Option<Result<u32, UserError>> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let wrong = || UserError::Id { id: text.chars().take(40).collect() };
    Some(text.parse().ok().filter(|id| *id <= ID_MAX).ok_or_else(wrong))
}

impl<'a> Passwd<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.trim().split(':');
        let (name, _) = (fields.next()?, fields.next()?);
        let (uid, gid) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let home = fields.nth(1).unwrap_or_default();
        (uid <= ID_MAX && gid <= ID_MAX).then_some(Self { name, uid, gid, home })
    }
}

impl<'a> Group<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.trim().split(':');
        let (name, _) = (fields.next()?, fields.next()?);
        let gid = fields.next()?.parse().ok()?;
        (gid <= ID_MAX).then_some(Self { name, gid, members: fields.next().unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# a remark\nbroken:x\nbin:x:1:1:bin:/bin:/sbin/nologin\n\
                          app:x:1000:1001:App:/home/app:/bin/sh\n1234:x:77:78::/odd:/bin/sh\nbig:x:4294967295:0::/:\n";
    const GROUP: &str = "root:x:0:root\nbin:x:1:root,bin,daemon\napp:x:1001:\nvideo:x:44:app,bin\nwheel:x:10:root\n";

    fn found(text: &str) -> (u32, u32, Vec<u32>, String) {
        let User { uid, gid, additional_gids, home } = find(text, PASSWD, GROUP).expect(text);
        (uid, gid, additional_gids, home)
    }

    #[test]
    fn users_are_found_as_docker_finds_them() {
        let home = str::to_owned;
        assert_eq!(found(""), (0, 0, vec![0, 1, 10], home("/root")));
        assert_eq!(found("root"), (0, 0, vec![0, 1, 10], home("/root")));
        assert_eq!(found("app"), (1000, 1001, vec![44], home("/home/app")));
        assert_eq!(found("1000"), (1000, 1001, vec![44], home("/home/app")));
        assert_eq!(found("app:video"), (1000, 44, vec![], home("/home/app")));
        assert_eq!(found("app:5"), (1000, 5, vec![], home("/home/app")));
        assert_eq!(found("4242"), (4242, 0, vec![], home("/")));
        assert_eq!(found("4242:10"), (4242, 10, vec![], home("/")));
        assert_eq!(found(":wheel"), (0, 10, vec![], home("/root")));
        assert_eq!(found("1234"), (77, 78, vec![], home("/odd")));
        for bad in ["nobody", "broken", "big", "app:nogroup", "-1", "4294967295", "99999999999", "app:-1"] {
            assert!(find(bad, PASSWD, GROUP).is_err(), "{bad}");
        }
        assert_eq!(find("", "", "").expect("root").home, "/");
    }
}
