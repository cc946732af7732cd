//! Folders and member accounts of the directory.

use serde::{Deserialize, Serialize};

/// A folder below the root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Folder {
    /// `fd-` and 10 letters or digits.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// The root or another folder.
    pub parent: String,
    /// Key and value.
    #[serde(default)]
    pub tags: Vec<(String, String)>,
}

/// A member account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// 16 digits.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// The root or another folder.
    pub folder: String,
    /// Key and value.
    #[serde(default)]
    pub tags: Vec<(String, String)>,
}

/// The directory's shape: who is below whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    /// `rd-` and 6 letters or digits.
    pub directory_id: String,
    /// `r-` and 6 letters or digits.
    pub root_folder_id: String,
    /// The account that owns the directory, 16 digits.
    pub management_account_id: String,
    /// All folders but the root.
    pub folders: Vec<Folder>,
    /// All member accounts.
    pub accounts: Vec<Account>,
}

impl Default for Tree {
    fn default() -> Self {
        let folder = |number: u32, name: &str, parent: &str| Folder {
            id: format!("fd-sim{number:07}"),
            name: name.to_owned(),
            parent: parent.to_owned(),
            tags: vec![("team".to_owned(), name.to_lowercase())],
        };
        let account = |number: u32, name: &str, folder: &str| Account {
            id: format!("20000000000000{number:02}"),
            name: name.to_owned(),
            folder: folder.to_owned(),
            tags: vec![("env".to_owned(), name.rsplit('-').next().unwrap_or(name).to_owned())],
        };
        Self {
            directory_id: crate::DIRECTORY_ID.to_owned(),
            root_folder_id: crate::ROOT_FOLDER_ID.to_owned(),
            management_account_id: crate::MANAGEMENT_ACCOUNT_ID.to_owned(),
            folders: vec![
                folder(1, "Applications", crate::ROOT_FOLDER_ID),
                folder(2, "Sandbox", crate::ROOT_FOLDER_ID),
                folder(3, "Payments", "fd-sim0000001"),
            ],
            accounts: vec![
                account(1, "shop-prod", "fd-sim0000001"),
                account(2, "shop-test", "fd-sim0000001"),
                account(3, "pay-prod", "fd-sim0000003"),
                account(4, "play-test", "fd-sim0000002"),
                account(5, "audit-prod", crate::ROOT_FOLDER_ID),
            ],
        }
    }
}

impl Tree {
    /// Is there such a folder, the root included.
    #[must_use]
    pub fn has_folder(&self, id: &str) -> bool {
        id == self.root_folder_id || self.folders.iter().any(|folder| folder.id == id)
    }

    /// Is there such a directory, folder or account.
    #[must_use]
    pub fn has_member(&self, id: &str) -> bool {
        id == self.directory_id
            || self.has_folder(id)
            || self.accounts.iter().any(|account| account.id == id)
    }

    /// The ids above a folder or account, nearest first, the directory last.
    #[must_use]
    pub fn above(&self, id: &str) -> Vec<String> {
        let mut above = Vec::new();
        let mut at = self
            .accounts
            .iter()
            .find(|account| account.id == id)
            .map(|account| &account.folder)
            .or_else(|| self.parent(id));
        while let Some(folder) = at.filter(|folder| !above.contains(*folder)) {
            above.push(folder.clone());
            at = self.parent(folder);
        }
        if id != self.directory_id {
            above.push(self.directory_id.clone());
        }
        above
    }

    /// `rd-x/r-x/fd-x/<account id>`.
    #[must_use]
    pub fn path(&self, account: &Account) -> String {
        let mut steps = self.above(&account.id);
        steps.reverse();
        steps.push(account.id.clone());
        steps.join("/")
    }

    /// The accounts and folders that are covered by a binding to `member`, itself left out.
    #[must_use]
    pub fn below(&self, member: &str) -> Vec<String> {
        let ids = self.folders.iter().map(|folder| &folder.id);
        let ids = ids.chain(self.accounts.iter().map(|account| &account.id));
        ids.filter(|id| self.above(id).iter().any(|above| above == member)).cloned().collect()
    }

    fn parent(&self, folder: &str) -> Option<&String> {
        self.folders.iter().find(|candidate| candidate.id == folder).map(|folder| &folder.parent)
    }
}
