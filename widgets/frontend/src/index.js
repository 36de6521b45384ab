// One surface: regions of HTML that Python renders, patched in place, and charts that take appended points.
//
// From Python: `_regions` (id -> HTML) and `_boards` (id -> columns) are read when a view opens; after that come messages
// {kind: "patch", regions}, {kind: "append", board, start, ...}, {kind: "reset", board}, {kind: "focus", selector}.
// To Python: {kind: "act", name, value, fields} and {kind: "resend", board} when points are missing.
import { listen } from "./events.js";
import { Boards } from "./board.js";
import { patch } from "./patch.js";

export default () => {
  return {
    render({ model, el }) {
      const root = document.createElement("div");
      root.className = "am";
      root.dataset.surface = model.get("_key");
      root.dataset.root = model.get("_root");
      el.append(root);
      hideTwin(model.get("_key"));
      const boards = new Boards(root, (message) => model.send(message));
      const show = (regions) => {
        for (const [name, html] of Object.entries(regions)) patch(root, name, html);
        boards.mount();
      };
      boards.load(model.get("_boards") ?? {});
      show(model.get("_regions") ?? {});
      const stop = listen(root, (message) => model.send(message));
      const take = (message, buffers) => {
        if (message.kind === "patch") show(message.regions);
        else if (message.kind === "append") boards.append(message, buffers);
        else if (message.kind === "reset") boards.reset(message.board);
        else if (message.kind === "focus") root.querySelector(message.selector)?.focus();
      };
      // The view keeps its own DOM; a later change of the traits is a restore from a saved state.
      const reload = () => {
        boards.load(model.get("_boards") ?? {});
        show(model.get("_regions") ?? {});
      };
      model.on("msg:custom", take);
      model.on("change:_regions", reload);
      model.send({ kind: "act", name: "opened", value: null, fields: {} });
      return () => {
        model.off("msg:custom", take);
        model.off("change:_regions", reload);
        stop();
        boards.destroy();
      };
    },
  };
};

// The notebook also holds a plain HTML twin of the panel for readers without a kernel; beside a live view it is hidden.
function hideTwin(key) {
  for (const twin of document.querySelectorAll(`[data-surface-twin="${CSS.escape(key)}"]`)) {
    (twin.closest(".jp-OutputArea-child") ?? twin).style.display = "none";
  }
  const observer = new MutationObserver(() => {
    for (const twin of document.querySelectorAll(`[data-surface-twin="${CSS.escape(key)}"]`)) {
      const holder = twin.closest(".jp-OutputArea-child") ?? twin;
      if (holder.style.display !== "none") holder.style.display = "none";
    }
  });
  observer.observe(document.body, { childList: true, subtree: true });
  setTimeout(() => observer.disconnect(), 20000);
}
