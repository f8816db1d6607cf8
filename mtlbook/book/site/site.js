// Opened as a file, a page may not fetch another: search shows titles without excerpts.
if (location.protocol === "file:" && typeof DOCUMENTATION_OPTIONS !== "undefined") {
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
}

document.addEventListener("DOMContentLoaded", () => {
  for (const button of document.querySelectorAll("button.mtlbook-fold")) {
    button.addEventListener("click", () => {
      const cells = [...document.querySelectorAll("details.mtlbook-code")];
      const open = !cells.some((cell) => cell.open);
      cells.forEach((cell) => (cell.open = open));
      button.textContent = open ? "Fold all code" : "Show all code";
    });
  }
});
