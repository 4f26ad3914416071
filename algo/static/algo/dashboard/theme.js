// Before anything is drawn: the theme that was chosen last, also in the admin, which keeps it under this name. One that
// stands in the user's preferences goes before it.
if (!("themeKept" in document.documentElement.dataset)) {
  let chosen = "auto";
  try {
    chosen = JSON.parse(localStorage.getItem("adminTheme") || '"auto"');
  } catch {
    // a store that is closed or holds something else: like the system
  }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
}
