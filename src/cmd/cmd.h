/* cmd.h - the command line: one file a command, each `int sv_cmd_<name>(int argc, char **argv)` with argv[0] = the command
 * Exit codes: 0 done, 1 failed with one sentence on standard error, 2 wrong usage. */
#ifndef SV_CMD_CMD_H
#define SV_CMD_CMD_H

#include "base/err.h"

int sv_cmd_serve(int argc, char **argv);
int sv_cmd_daemon(int argc, char **argv); /* started by serve */
int sv_cmd_engine(int argc, char **argv); /* started by serve */
int sv_cmd_models(int argc, char **argv);
int sv_cmd_token(int argc, char **argv);
int sv_cmd_status(int argc, char **argv);
int sv_cmd_limits(int argc, char **argv);

#define SV_DEFAULT_DATA "./data"
#define SV_PACK_DIR "packed" /* in it: weights laid out for this CPU */
#define SV_DEFAULT_LISTEN "127.0.0.1:8787"

int sv_cmd_fail(const sv_err *err);          /* prints "selvedge: <message>", returns 1 */
int sv_cmd_usage(const char *text);          /* prints the text, returns 2 */

/* Where this build's parts lie, found from the executable: the folder that holds build/ (a source tree) or else "". */
void sv_cmd_root(char out[4096]);

#endif
