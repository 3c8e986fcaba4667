// Run by mongosh on the first server: form the replica set if there is none, then wait until somebody takes writes.

const MEMBERS = ['mongodb-1:27017', 'mongodb-2:27017', 'mongodb-3:27017'];
const NOT_YET_INITIALIZED = 94;
const WAIT_S_MAX = 60;

function formed() {
  try {
    db.adminCommand({ replSetGetStatus: 1 });
    return true;
  } catch (error) {
    if (error.code === NOT_YET_INITIALIZED) return false;
    throw error;
  }
}

function hasPrimary() {
  return Boolean(db.hello().primary);
}

if (!formed()) {
  rs.initiate({ _id: 'rs0', members: MEMBERS.map((host, _id) => ({ _id, host })) });
}
for (let waited = 0; !hasPrimary(); waited += 1) {
  if (waited === WAIT_S_MAX) throw new Error('no primary');
  sleep(1000);
}
print(`primary: ${db.hello().primary}`);
