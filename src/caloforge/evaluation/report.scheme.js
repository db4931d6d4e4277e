// Before anything is drawn: the scheme chosen last time, else the system's.
(() => {
  let chosen = null;
  try { chosen = localStorage.getItem("caloforge-scheme"); } catch (e) { /* pages from files may not */ }
  if (chosen !== "dark" && chosen !== "light") chosen = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  document.documentElement.dataset.scheme = chosen;
})();
