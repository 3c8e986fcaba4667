// The members and settings of a group as its panel shows them. Pure functions.

const RANK = { owner: 0, admin: 1, member: 2 };

/** Owner, admins, members; by name within a rank. `members` is `{user_id: row}`. */
export function inOrder(members) {
  return Object.values(members).sort(
    (a, b) =>
      (RANK[a.role] ?? 3) - (RANK[b.role] ?? 3) ||
      labelOf(a).localeCompare(labelOf(b)) ||
      a.user_id.localeCompare(b.user_id),
  );
}

/** What a member is called here: the alias in this group, the name, the id. */
export function labelOf(member) {
  return member.alias || member.name || member.user_id;
}

/** True when `mine` (a role) may act on a member of role `theirs`. */
export function mayActOn(mine, theirs) {
  if (mine === "owner") return theirs !== "owner";
  return mine === "admin" && theirs === "member";
}

export function isOfficer(role) {
  return role === "owner" || role === "admin";
}

/** Applies one event to `{user_id: row}`; `nameOf` gives the name of somebody who comes in. */
export function withEvent(members, event, nameOf) {
  const { type, data, at } = event;
  const change = (user_id, fields) =>
    members[user_id] === undefined ? members : { ...members, [user_id]: { ...members[user_id], ...fields } };
  switch (type) {
    case "member_added": {
      const row = {
        user_id: data.user_id,
        name: nameOf(data.user_id),
        role: data.role ?? "member",
        joined_at: at,
      };
      return { ...members, [data.user_id]: row };
    }
    case "member_removed":
    case "member_left": {
      const { [data.user_id]: _, ...rest } = members;
      return rest;
    }
    case "member_alias_changed":
      return change(data.user_id, { alias: data.alias });
    case "member_muted":
      return change(data.user_id, { muted_until: data.until });
    case "member_unmuted":
      return change(data.user_id, { muted_until: null });
    case "role_changed":
      return change(data.user_id, { role: data.role });
    case "owner_transferred": {
      const demoted = change(data.from, { role: "admin" });
      return demoted[data.to] === undefined
        ? demoted
        : { ...demoted, [data.to]: { ...demoted[data.to], role: "owner" } };
    }
    default:
      return members;
  }
}

/** Applies one event to a group's settings (the data of `GET /v1/groups/{id}`). */
export function settingsAfter(group, event, me) {
  const { type, data } = event;
  switch (type) {
    case "group_changed":
      return { ...group, ...data.changes };
    case "group_muted":
      return { ...group, muted: true };
    case "group_unmuted":
      return { ...group, muted: false };
    case "group_dissolved":
      return { ...group, dissolved: true };
    case "member_added":
      return { ...group, member_count: (group.member_count ?? 0) + 1 };
    case "member_left":
    case "member_removed":
      return { ...group, member_count: Math.max(0, (group.member_count ?? 1) - 1) };
    case "role_changed":
      return data.user_id === me ? { ...group, my_role: data.role } : group;
    case "owner_transferred": {
      if (data.to === me) return { ...group, my_role: "owner" };
      return data.from === me ? { ...group, my_role: "admin" } : group;
    }
    default:
      return group;
  }
}
