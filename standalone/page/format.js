// Numbers and times for people.

/** 0.05 → "50 ms", 3.2 → "3.2 s", 75 → "1 min 15 s", 7300 → "2 h 1 min", 200000 → "2 d 7 h". */
export function duration(seconds) {
  if (!Number.isFinite(seconds)) return "";
  const size = Math.max(0, seconds);
  if (size < 0.0005) return "0 s";
  if (size < 0.9995) return `${Math.round(size * 1000)} ms`;
  if (size < 9.95) return `${size.toFixed(1)} s`;
  const whole = Math.round(size);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return pair(Math.floor(whole / 60), "min", whole % 60, "s");
  if (whole < 86400) return pair(Math.floor(whole / 3600), "h", Math.floor((whole % 3600) / 60), "min");
  return pair(Math.floor(whole / 86400), "d", Math.floor((whole % 86400) / 3600), "h");
}

function pair(large, largeUnit, small, smallUnit) {
  return small ? `${large} ${largeUnit} ${small} ${smallUnit}` : `${large} ${largeUnit}`;
}

/** A server's time as seconds since the epoch; NaN when there is none. */
export function seconds(text) {
  return text ? Date.parse(text) / 1000 : NaN;
}

/** How long ago a server's time was, in its largest unit: "now", "12 s", "5 min", "3 h", "4 d". */
export function age(text, now = Date.now() / 1000) {
  const passed = now - seconds(text);
  if (!Number.isFinite(passed)) return "";
  if (passed < 1.5) return "now";
  if (passed < 60) return `${Math.round(passed)} s`;
  if (passed < 3600) return `${Math.floor(passed / 60)} min`;
  if (passed < 86400) return `${Math.floor(passed / 3600)} h`;
  return `${Math.floor(passed / 86400)} d`;
}

/** How long a task ran or has been running. */
export function runTime(task, now = Date.now() / 1000) {
  if (!task.started || task.status === "created" || task.status === "queued") return "";
  const end = task.status === "in_progress" ? now : seconds(task.completed ?? task.status_changed);
  return duration(end - seconds(task.started));
}

/** Local date and time to the second. */
export function moment(text) {
  const at = seconds(text);
  return Number.isFinite(at) ? new Date(at * 1000).toLocaleString() : "";
}

/** Local time of day of milliseconds since the epoch: "14:03:59". */
export function clock(milliseconds) {
  const at = new Date(milliseconds);
  return [at.getHours(), at.getMinutes(), at.getSeconds()].map((part) => String(part).padStart(2, "0")).join(":");
}

/** A measured value in few digits. */
export function number(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1e6)) return value.toExponential(2);
  return String(Number(value.toPrecision(4)));
}

/** Bytes: "1.2 MB". */
export function bytes(count) {
  if (!Number.isFinite(count)) return "";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let size = count;
  let unit = 0;
  while (size >= 1000 && unit < units.length - 1) {
    size /= 1000;
    unit += 1;
  }
  return `${unit && size < 10 ? size.toFixed(1) : Math.round(size)} ${units[unit]}`;
}
