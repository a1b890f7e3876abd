// The browser of the tests, and what drives it.
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

/** Starts the browser: the machine's own, or the one that tests/run fetched, with the libraries and the fonts beside it; `more` are arguments for it. */
export function browser(tools, ...more) {
  const { chromium } = createRequire(path.join(tools, "package.json"))("playwright-core");
  const usr = path.join(tools, "../tools/usr");
  const own = process.env.PATH.split(":").flatMap((folder) => ["chromium-headless-shell", "chromium"].map((name) => path.join(folder, name)));
  const executablePath = [...own.filter((file) => !file.startsWith(usr)), path.join(usr, "lib/chromium/chromium-headless-shell")].find((file) => existsSync(file));
  const libraries = path.join(usr, "lib", process.arch === "arm64" ? "aarch64-linux-gnu" : "x86_64-linux-gnu");
  const env = { ...process.env, XDG_DATA_HOME: path.join(usr, "share") };
  if (executablePath.startsWith(usr)) env.LD_LIBRARY_PATH = `${libraries}:${libraries}/pulseaudio`;
  if (!existsSync("/etc/fonts/fonts.conf")) env.FONTCONFIG_PATH = path.join(usr, "../etc/fonts");
  return chromium.launch({ executablePath, env, args: ["--no-sandbox", ...more] });
}
