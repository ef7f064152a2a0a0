// Elements from data. Every text becomes a text node: task names, console lines and metrics are hostile input,
// and nothing in this page ever parses one as HTML (the page's Content-Security-Policy enforces it too).

/** An element: `on...` properties are listeners, `dataset` is data-*, all others are attributes. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "dataset") Object.assign(element.dataset, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Set an element's text, only when it changed: a selection in it survives. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Make `parent`'s children exactly `elements`, in order. What stays is not moved: a selection in it survives. */
export function place(parent, elements) {
  const wanted = new Set(elements);
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
  let next = parent.firstElementChild;
  for (const element of elements) {
    if (element === next) next = next.nextElementSibling;
    else parent.insertBefore(element, next);
  }
}

/**
 * Make `parent`'s children those of `items`, in order, keeping the element of each key.
 * `create(item)` makes an element, `update(element, item)` brings it up to date.
 */
export function reconcile(parent, items, key, create, update) {
  const known = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  const elements = new Map();
  for (const item of items) {
    const name = key(item);
    const element = known.get(name) ?? create(item);
    element.dataset.key = name;
    elements.set(name, element);
    update(element, item);
  }
  place(parent, [...elements.values()]);
}

/** A link to another page, only for web addresses; else plain text. */
export function webLink(address, text = address) {
  let scheme = "";
  try {
    scheme = new URL(address).protocol;
  } catch {
    return h("span", {}, text);
  }
  if (scheme !== "http:" && scheme !== "https:") return h("span", {}, text);
  return h("a", { href: address, target: "_blank", rel: "noopener noreferrer" }, text);
}
