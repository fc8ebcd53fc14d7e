//! The volumes of a Pod, as directories: those of Secrets, `ConfigMap`s, tokens and fields are written again when their
//! source changes, all entries at once, as a kubelet does it.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};

use jiff::{Timestamp, ToSpan as _};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, KeyToPath, PersistentVolumeClaim, Pod, ServiceAccount, ServiceAccountTokenProjection, Volume,
};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;

use super::environment::{Place, field};
use super::sources::{Reference, entries};

/// Files of a volume: content and mode by relative path.
type Files = BTreeMap<String, (Vec<u8>, u32)>;

/// Mode of files whose volume declares none.
const DEFAULT_MODE: u32 = 0o644;

/// Validity of tokens whose volume declares none, in seconds.
const TOKEN_SECONDS: i64 = 3600;

/// The volumes of one Pod.
pub(super) struct Volumes {
    client: Client,
    place: Place,
    /// The directory of this Pod's volumes.
    directory: PathBuf,
    /// The directory of the claims, which outlive Pods.
    claims: PathBuf,
    /// The group that owns the volumes (`fsGroup`).
    group: Option<u32>,
    /// The last content of each volume and how often it was written.
    written: BTreeMap<String, (Files, u32)>,
    /// Tokens by volume and path, and when each is to be renewed.
    tokens: BTreeMap<(String, String), (String, Timestamp)>,
    /// Where each volume is.
    paths: BTreeMap<String, PathBuf>,
}

impl Volumes {
    pub(super) fn new(client: Client, place: Place, directory: PathBuf, claims: PathBuf, pod: &Pod) -> Self {
        let context = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
        let group = context.and_then(|context| context.fs_group).and_then(|group| u32::try_from(group).ok());
        let (written, tokens, paths) = Default::default();
        Self { client, place, directory, claims, group, written, tokens, paths }
    }

    /// Where a volume of this name is.
    pub(super) fn path(&self, volume: &str) -> Option<&Path> {
        self.paths.get(volume).map(PathBuf::as_path)
    }

    /// Creates the Pod's volumes, or brings them up to date.
    pub(super) async fn update(&mut self, pod: &Pod, now: Timestamp) -> Result<(), String> {
        for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            let path = self.update_one(pod, volume, now).await.map_err(|e| format!("volume {}: {e}", volume.name))?;
            self.paths.insert(volume.name.clone(), path);
        }
        Ok(())
    }

    async fn update_one(&mut self, pod: &Pod, volume: &Volume, now: Timestamp) -> Result<PathBuf, String> {
        let own = self.directory.join(&volume.name);
        if volume.empty_dir.is_some() {
            return self.writable(own);
        }
        if let Some(claim) = &volume.persistent_volume_claim {
            self.bind_claim(pod, &claim.claim_name).await?;
            let namespace = pod.namespace().unwrap_or_default();
            return self.writable(self.claims.join(namespace).join(&claim.claim_name));
        }
        if let Some(host) = &volume.host_path {
            return Ok(PathBuf::from(&host.path));
        }
        let files = self.files(pod, volume, now).await?;
        if self.written.get(&volume.name).is_none_or(|(last, _)| *last != files) {
            let count = self.written.get(&volume.name).map_or(0, |(_, count)| *count) + 1;
            write_atomically(&own, &files, count, self.group).map_err(|error| error.to_string())?;
            self.written.insert(volume.name.clone(), (files, count));
        }
        Ok(own)
    }

    /// A directory that the Pod's containers may write: it and all files in it belong to the group, if there is one and it
    /// is not the directory's yet (`fsGroupChangePolicy: OnRootMismatch`).
    fn writable(&self, path: PathBuf) -> Result<PathBuf, String> {
        let create = || {
            fs::create_dir_all(&path)?;
            match self.group {
                Some(group) if fs::metadata(&path)?.gid() != group => own(&path, group),
                Some(_) => Ok(()),
                None => fs::set_permissions(&path, Permissions::from_mode(0o777)),
            }
        };
        create().map_err(|error| error.to_string())?;
        Ok(path)
    }

    /// Plays the provisioner: a claim that exists is bound.
    async fn bind_claim(&self, pod: &Pod, name: &str) -> Result<(), String> {
        let claims: Api<PersistentVolumeClaim> =
            Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
        let claim = claims.get_opt(name).await.map_err(|error| error.to_string())?;
        let claim = claim.ok_or_else(|| format!("PersistentVolumeClaim {name} not found"))?;
        let bound = claim.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Bound"));
        if !bound {
            let spec = json!(claim.spec);
            let status = json!({
                "phase": "Bound", "accessModes": spec["accessModes"], "capacity": spec["resources"]["requests"],
            });
            let patch = Patch::Merge(json!({ "status": status }));
            claims.patch_status(name, &PatchParams::default(), &patch).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    async fn files(&mut self, pod: &Pod, volume: &Volume, now: Timestamp) -> Result<Files, String> {
        let mut files = Files::new();
        if let Some(secret) = &volume.secret {
            let reference = Reference::secret(secret.secret_name.as_deref().unwrap_or_default(), secret.optional);
            files.extend(self.source(pod, reference, secret.items.as_deref(), mode(secret.default_mode)).await?);
        } else if let Some(map) = &volume.config_map {
            let reference = Reference::config_map(&map.name, map.optional);
            files.extend(self.source(pod, reference, map.items.as_deref(), mode(map.default_mode)).await?);
        } else if let Some(downward) = &volume.downward_api {
            files.extend(self.fields(
                pod,
                downward.items.as_deref().unwrap_or_default(),
                mode(downward.default_mode),
            )?);
        } else if let Some(projected) = &volume.projected {
            let mode = mode(projected.default_mode);
            for part in projected.sources.iter().flatten() {
                if let Some(secret) = &part.secret {
                    let reference = Reference::secret(&secret.name, secret.optional);
                    files.extend(self.source(pod, reference, secret.items.as_deref(), mode).await?);
                } else if let Some(map) = &part.config_map {
                    let reference = Reference::config_map(&map.name, map.optional);
                    files.extend(self.source(pod, reference, map.items.as_deref(), mode).await?);
                } else if let Some(downward) = &part.downward_api {
                    files.extend(self.fields(pod, downward.items.as_deref().unwrap_or_default(), mode)?);
                } else if let Some(token) = &part.service_account_token {
                    let text = self.token(pod, &volume.name, token, now).await?;
                    files.insert(token.path.clone(), (text.into_bytes(), mode));
                } else {
                    return Err("projected source not supported by the node agent".to_owned());
                }
            }
        } else {
            return Err("type not supported by the node agent".to_owned());
        }
        Ok(files)
    }

    /// The files of a Secret or `ConfigMap`: all entries, or the listed ones.
    async fn source(
        &self,
        pod: &Pod,
        reference: Reference<'_>,
        items: Option<&[KeyToPath]>,
        mode: u32,
    ) -> Result<Files, String> {
        let found = entries(&self.client, &pod.namespace().unwrap_or_default(), reference).await?;
        let Some(mut found) = found else { return Ok(Files::new()) };
        let Some(items) = items.filter(|items| !items.is_empty()) else {
            return Ok(found.into_iter().map(|(key, value)| (key, (value, mode))).collect());
        };
        let mut files = Files::new();
        for item in items {
            match found.remove(&item.key) {
                Some(value) => {
                    files.insert(item.path.clone(), (value, item.mode.map_or(mode, i32::cast_unsigned)));
                }
                None if reference.optional => {}
                None => return Err(format!("key {} of {:?} {} not found", item.key, reference.source, reference.name)),
            }
        }
        Ok(files)
    }

    fn fields(&self, pod: &Pod, items: &[DownwardAPIVolumeFile], mode: u32) -> Result<Files, String> {
        let file = |item: &DownwardAPIVolumeFile| {
            let path = item.field_ref.as_ref().map(|field| field.field_path.as_str()).unwrap_or_default();
            let text = field(pod, &self.place, path)?;
            Ok((item.path.clone(), (text.into_bytes(), item.mode.map_or(mode, i32::cast_unsigned))))
        };
        items.iter().map(file).collect()
    }

    /// The token of the Pod's ServiceAccount, bound to the Pod, renewed after four fifths of its life.
    async fn token(
        &mut self,
        pod: &Pod,
        volume: &str,
        projection: &ServiceAccountTokenProjection,
        now: Timestamp,
    ) -> Result<String, String> {
        let key = (volume.to_owned(), projection.path.clone());
        if let Some((token, _)) = self.tokens.get(&key).filter(|(_, renew)| now < *renew) {
            return Ok(token.clone());
        }
        let seconds = projection.expiration_seconds.unwrap_or(TOKEN_SECONDS);
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: projection.audience.iter().cloned().collect(),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: Some(pod.name_any()),
                    uid: pod.uid(),
                }),
                expiration_seconds: Some(seconds),
            },
            ..TokenRequest::default()
        };
        let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).unwrap_or("default");
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
        let issued = accounts.create_token_request(account, &PostParams::default(), &request).await;
        let token = issued.map_err(|error| format!("token of ServiceAccount {account}: {error}"))?;
        let token = token.status.map(|status| status.token).unwrap_or_default();
        let renew = now.checked_add((seconds * 4 / 5).seconds()).map_err(|error| error.to_string())?;
        self.tokens.insert(key, (token.clone(), renew));
        Ok(token)
    }
}

fn mode(declared: Option<i32>) -> u32 {
    declared.map_or(DEFAULT_MODE, i32::cast_unsigned)
}

/// Gives a directory and all that it holds to a group, which may write it.
fn own(path: &Path, group: u32) -> io::Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            own(&entry?.path(), group)?;
        }
    }
    let added = if path.is_dir() { 0o2070 } else { 0o060 };
    let present = fs::metadata(path)?.permissions().mode() & 0o7777;
    chown(path, None, Some(group))?;
    fs::set_permissions(path, Permissions::from_mode(present | added))
}

/// Writes a volume so that a reader sees the old files or the new ones, never a mixture: each name is a link through
/// `..data`, and that link is replaced.
fn write_atomically(volume: &Path, files: &Files, count: u32, group: Option<u32>) -> io::Result<()> {
    let data = volume.join(format!("..{count}"));
    fs::create_dir_all(&data)?;
    fs::set_permissions(volume, Permissions::from_mode(0o755))?;
    for (name, (content, mode)) in files {
        let path = data.join(name);
        fs::create_dir_all(path.parent().unwrap_or(&data))?;
        fs::write(&path, content)?;
        if group.is_some() {
            chown(&path, None, group)?;
        }
        // The group of the volume can read it, as a kubelet sees to.
        fs::set_permissions(&path, Permissions::from_mode(if group.is_some() { mode | 0o440 } else { *mode }))?;
    }
    let link = volume.join("..new");
    symlink(format!("..{count}"), &link)?;
    fs::rename(&link, volume.join("..data"))?;
    let first = |path: &str| path.split('/').next().unwrap_or_default().to_owned();
    for name in files.keys().map(|path| first(path)) {
        if volume.join(&name).symlink_metadata().is_err() {
            symlink(format!("..data/{name}"), volume.join(&name))?;
        }
    }
    for entry in fs::read_dir(volume)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let old_data = name.starts_with("..") && name != "..data" && name != format!("..{count}");
        if old_data {
            fs::remove_dir_all(volume.join(&name))?;
        } else if !name.starts_with("..") && !files.keys().any(|path| first(path) == name) {
            fs::remove_file(volume.join(&name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_source_replaces_all_files_of_a_volume_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let volume = folder.path().join("volume");
        let files = |names: &[(&str, &str)]| -> Files {
            names.iter().map(|(name, text)| ((*name).to_owned(), (text.as_bytes().to_vec(), 0o640))).collect()
        };
        write_atomically(&volume, &files(&[("a", "1"), ("b", "1"), ("in/side", "1")]), 1, None).unwrap();
        write_atomically(&volume, &files(&[("a", "2"), ("in/side", "2")]), 2, None).unwrap();
        assert_eq!(fs::read_to_string(volume.join("a")).unwrap(), "2");
        assert_eq!(fs::read_to_string(volume.join("in/side")).unwrap(), "2");
        assert_eq!(fs::read_link(volume.join("a")).unwrap(), Path::new("..data/a"));
        let mut names: Vec<_> =
            fs::read_dir(&volume).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["..2", "..data", "a", "in"]);
        assert_eq!(fs::metadata(volume.join("a")).unwrap().permissions().mode() & 0o777, 0o640);
    }
}
