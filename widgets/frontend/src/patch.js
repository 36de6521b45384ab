// Change the DOM as little as possible, so that focus, selection, open folds and scroll places stay.
import morphdom from "morphdom";

// A region that is not on the page (a tab that is not open) is left out; only the outermost one is made here.
export function patch(root, name, html) {
  let region = root.querySelector(`[data-region="${CSS.escape(name)}"]`);
  if (!region) {
    if (root.dataset.root !== name) return;
    region = document.createElement("div");
    region.dataset.region = name;
    root.append(region);
  }
  const wanted = region.cloneNode(false);
  wanted.innerHTML = html;
  morphdom(region, wanted, {
    childrenOnly: true,
    getNodeKey: (node) => node.getAttribute?.("data-key") || node.id || undefined,
    onBeforeElUpdated(from, to) {
      if (from.isEqualNode(to)) return false;
      // A region inside this one, and a chart, have their own updates.
      if ((from.dataset.region && from.dataset.region === to.dataset.region) || (from.dataset.board && from.dataset.board === to.dataset.board)) {
        return false;
      }
      if (from === document.activeElement && isTextInput(from)) to.value = from.value;
      if (from.tagName === "DETAILS" && !to.hasAttribute("data-fixed")) to.open = from.open;
      if (from.tagName === "DIALOG" && from.open) to.setAttribute("open", "");
      return true;
    },
  });
  for (const box of region.querySelectorAll("select[data-value]")) {
    if (box !== document.activeElement) box.value = box.dataset.value;
  }
  for (const dialog of region.querySelectorAll("dialog[data-modal]:not([open])")) dialog.showModal();
  for (const log of region.querySelectorAll("[data-follow]")) {
    if (log.dataset.held !== "yes") log.scrollTop = log.scrollHeight;
  }
}

function isTextInput(node) {
  return node.tagName === "TEXTAREA" || (node.tagName === "INPUT" && !["checkbox", "radio", "range"].includes(node.type));
}
