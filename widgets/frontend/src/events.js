// Clicks, changes and keys of the whole surface, by delegation: `data-act` is a button's name, `data-field` that of a control.
const LIVE_MS = 250;

export function listen(root, send) {
  const act = (name, value, fields = {}) => send({ kind: "act", name, value, fields });
  const timers = new Map();

  const onClick = (event) => {
    const copy = event.target.closest("[data-copy]");
    if (copy) {
      const source = root.querySelector(copy.dataset.copy);
      navigator.clipboard?.writeText(source?.value ?? source?.textContent ?? "");
      const said = copy.getAttribute("aria-label") ?? copy.textContent;
      copy.textContent = "Copied";
      setTimeout(() => (copy.textContent = copy.dataset.label ?? said), 1200);
      return;
    }
    const button = event.target.closest("[data-act]");
    if (!button || button.getAttribute("aria-disabled") === "true" || button.disabled) return;
    if (button.tagName === "A") event.preventDefault();
    act(button.dataset.act, button.dataset.value ?? null, secrets(root, button));
  };

  const onChange = (event) => {
    const control = event.target.closest("[data-field]");
    if (control) {
      clearTimeout(timers.get(control.dataset.field));
      act(control.dataset.field, valueOf(control));
    }
  };

  const onInput = (event) => {
    const control = event.target.closest("[data-field][data-live]");
    if (!control) return;
    clearTimeout(timers.get(control.dataset.field));
    timers.set(control.dataset.field, setTimeout(() => act(control.dataset.field, valueOf(control)), LIVE_MS));
  };

  const onKey = (event) => {
    // JupyterLab's own shortcuts (a, b, dd, ...) must not fire while somebody works in the panel.
    event.stopPropagation();
    const tab = event.target.closest("[role=tab]");
    if (tab) moveTab(tab, event);
    const row = event.target.closest("tr[data-act]");
    if (row && (event.key === "Enter" || event.key === " ") && event.target === row) {
      event.preventDefault();
      act(row.dataset.act, row.dataset.value ?? null);
    }
  };

  const onCancel = (event) => {
    const dialog = event.target.closest("dialog[data-modal]");
    if (dialog) act(dialog.dataset.modal, "cancel");
  };

  const onScroll = (event) => {
    const log = event.target;
    if (log.dataset?.follow !== undefined) log.dataset.held = log.scrollTop + log.clientHeight < log.scrollHeight - 8 ? "yes" : "no";
  };

  const pairs = [
    ["click", onClick],
    ["change", onChange],
    ["input", onInput],
    ["keydown", onKey],
  ];
  for (const [name, handler] of pairs) root.addEventListener(name, handler);
  root.addEventListener("cancel", onCancel, true);
  root.addEventListener("scroll", onScroll, true);
  return () => {
    for (const [name, handler] of pairs) root.removeEventListener(name, handler);
    root.removeEventListener("cancel", onCancel, true);
    root.removeEventListener("scroll", onScroll, true);
  };
}

function valueOf(control) {
  if (control.type === "checkbox") return control.checked;
  return control.value;
}

// A secret travels with the click that uses it and is wiped at once; it is never part of a synced value.
function secrets(root, button) {
  const fields = {};
  for (const name of (button.dataset.with ?? "").split(" ").filter(Boolean)) {
    const control = root.querySelector(`[data-secret="${CSS.escape(name)}"]`);
    if (control) {
      fields[name] = control.value;
      control.value = "";
    }
  }
  return fields;
}

function moveTab(tab, event) {
  const tabs = [...tab.closest("[role=tablist]").querySelectorAll("[role=tab]")];
  const at = tabs.indexOf(tab);
  const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  const next = tabs[(to + tabs.length) % tabs.length];
  next.focus();
  next.click();
}
