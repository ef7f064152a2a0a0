// Calls to the ClearML-compatible API this page was served by. The token lives in memory; for a person who typed
// keys (the server is not on this machine) it stays in this tab's sessionStorage over a reload.

const STORED = "podstrap-token";
let token = sessionStorage.getItem(STORED) ?? "";

/** Nobody is logged in, and the server hands out no session: ask for the keys. */
export class LoginNeeded extends Error {}

/** The server considered the call and refused it. */
export class ApiError extends Error {}

/** POST `endpoint` ("tasks.get_all_ex"); the answer's `data`. Logs in by itself where the server lets it. */
export async function call(endpoint, payload = {}) {
  if (!token) await openSession();
  let answer = await post(endpoint, payload, `Bearer ${token}`);
  if (answer.status === 401) {
    await openSession();
    answer = await post(endpoint, payload, `Bearer ${token}`);
  }
  if (answer.status === 401) throw new LoginNeeded();
  return read(endpoint, answer);
}

/** Log in with the keys a person typed; LoginNeeded when they are wrong. */
export async function login(accessKey, secretKey) {
  const utf8 = new TextEncoder().encode(`${accessKey}:${secretKey}`);
  const answer = await post("auth.login", {}, `Basic ${btoa(String.fromCharCode(...utf8))}`);
  if (answer.status === 401) throw new LoginNeeded();
  token = (await read("auth.login", answer)).token;
  sessionStorage.setItem(STORED, token);
}

/** Fetch a file of this server's own file routes with the session, and let the browser save it. */
export async function download(address, name) {
  const answer = await fetch(address, { headers: { Authorization: `Bearer ${token}` }, credentials: "omit" });
  if (!answer.ok) throw new ApiError(`${name}: HTTP ${answer.status}`);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await answer.blob());
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

async function openSession() {
  sessionStorage.removeItem(STORED);
  token = "";
  const answer = await fetch("/page/session", { cache: "no-store", credentials: "omit" });
  if (!answer.ok) throw new LoginNeeded();
  token = (await answer.json()).token;
}

function post(endpoint, payload, authorization) {
  return fetch(`/${endpoint}`, {
    method: "POST",
    headers: { "Content-Type": "application/json", Authorization: authorization },
    body: JSON.stringify(payload),
    credentials: "omit",
    cache: "no-store",
  });
}

async function read(endpoint, answer) {
  let body = {};
  try {
    body = await answer.json();
  } catch {
    throw new ApiError(`${endpoint}: HTTP ${answer.status} without JSON`);
  }
  if (!answer.ok) throw new ApiError(body.meta?.result_msg || `${endpoint}: HTTP ${answer.status}`);
  return body.data ?? {};
}
