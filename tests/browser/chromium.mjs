// Starts the browser for the tests.
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

/** Starts the installed browser. If none is installed, starts the browser that tests/run downloaded together with its libraries and fonts. `more` are additional browser arguments. */
export function browser(tools, ...more) {
  const { chromium } = createRequire(path.join(tools, "package.json"))("playwright-core");
  const usr = path.join(tools, "../tools/usr");
  const installed = process.env.PATH.split(":").flatMap((folder) => ["chromium-headless-shell", "chromium"].map((name) => path.join(folder, name)));
  const executablePath = [...installed.filter((file) => !file.startsWith(usr)), path.join(usr, "lib/chromium/chromium-headless-shell")].find((file) => existsSync(file));
  const libraries = path.join(usr, "lib", process.arch === "arm64" ? "aarch64-linux-gnu" : "x86_64-linux-gnu");
  const env = { ...process.env, XDG_DATA_HOME: path.join(usr, "share") };
  if (executablePath.startsWith(usr)) env.LD_LIBRARY_PATH = `${libraries}:${libraries}/pulseaudio`;
  if (!existsSync("/etc/fonts/fonts.conf")) env.FONTCONFIG_PATH = path.join(usr, "../etc/fonts");
  return chromium.launch({ executablePath, env, args: ["--no-sandbox", ...more] });
}
