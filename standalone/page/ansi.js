// A console line with terminal colours → runs of text with a style. Pure: strings in, plain objects out.

// Control sequences (CSI), operating-system commands (OSC: titles, hyperlinks), and other two-byte escapes.
// eslint-disable-next-line no-control-regex
const ESCAPE = /\x1b(?:\[([0-9;:?<=>]*)[ -/]*([@-~])|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])/g;
// eslint-disable-next-line no-control-regex
const CONTROL = /[\x00-\x08\x0b-\x1f\x7f]/g;
const NAMES = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];

/** What a terminal would leave on screen of one line: the text after its last carriage return. */
export function settle(line) {
  const end = line.endsWith("\r") ? line.replace(/\r+$/, "") : line;
  const cut = end.lastIndexOf("\r");
  return cut < 0 ? end : end.slice(cut + 1);
}

/** The line without any escape sequence or control character. */
export function strip(line) {
  return line.replace(ESCAPE, "").replace(CONTROL, "");
}

/** Runs [{text, style}] of a line; `style` is null or {color, background (class suffix or "#rrggbb"), bold, dim, italic, underline}. */
export function runs(line) {
  if (!line.includes("\x1b")) return [{ text: line.replace(CONTROL, ""), style: null }];
  const found = [];
  let style = null;
  let from = 0;
  const add = (to) => {
    const text = line.slice(from, to).replace(CONTROL, "");
    if (text) found.push({ text, style });
  };
  for (const escape of line.matchAll(ESCAPE)) {
    add(escape.index);
    from = escape.index + escape[0].length;
    if (escape[2] === "m") style = styled(style, (escape[1] || "0").split(/[;:]/).map(Number));
  }
  add(line.length);
  return found;
}

function styled(before, codes) {
  let style = { ...before };
  for (let at = 0; at < codes.length; at += 1) {
    const code = codes[at];
    if (code === 0) style = {};
    else if (code === 1) style.bold = true;
    else if (code === 2) style.dim = true;
    else if (code === 3) style.italic = true;
    else if (code === 4) style.underline = true;
    else if (code === 22) style.bold = style.dim = false;
    else if (code === 23) style.italic = false;
    else if (code === 24) style.underline = false;
    else if (code >= 30 && code <= 37) style.color = NAMES[code - 30];
    else if (code >= 90 && code <= 97) style.color = `bright-${NAMES[code - 90]}`;
    else if (code >= 40 && code <= 47) style.background = NAMES[code - 40];
    else if (code >= 100 && code <= 107) style.background = `bright-${NAMES[code - 100]}`;
    else if (code === 39) delete style.color;
    else if (code === 49) delete style.background;
    else if (code === 38 || code === 48) {
      const [color, used] = extended(codes, at + 1);
      if (color) style[code === 38 ? "color" : "background"] = color;
      at += used;
    }
  }
  return Object.values(style).some(Boolean) ? style : null;
}

/** The colour of `38;5;N` or `38;2;R;G;B` from its second number on, and how many numbers it took. */
function extended(codes, at) {
  if (codes[at] === 2) return [hex(codes.slice(at + 1, at + 4)), 4];
  if (codes[at] !== 5) return [null, 1];
  const index = codes[at + 1];
  if (!(index >= 0 && index <= 255)) return [null, 2];
  if (index < 8) return [NAMES[index], 2];
  if (index < 16) return [`bright-${NAMES[index - 8]}`, 2];
  if (index >= 232) return [hex(Array(3).fill(8 + (index - 232) * 10)), 2];
  const cube = [36, 6, 1].map((step) => Math.floor((index - 16) / step) % 6);
  return [hex(cube.map((level) => (level ? 55 + level * 40 : 0))), 2];
}

function hex(parts) {
  if (parts.length < 3 || !parts.every((part) => part >= 0 && part <= 255)) return null;
  return `#${parts.map((part) => Math.floor(part).toString(16).padStart(2, "0")).join("")}`;
}
