/* pictures.h - what requests to image models ask, and what they answer, as the JSON of client.h's sv_engine_media
 *
 *     in   top (5): at most so many classes or boxes; threshold (0.5): the least score of a box; both optional
 *     out  {"width", "height", "hits": [{"label", "score", "box": [xmin, ymin, xmax, ymax]}]}, best first; the size is that of the upright picture, boxes are
 *          in its pixels, and only detectors have them
 *
 * Refusals: SV_EINVAL of an option, and a file that is no picture (SV_EINVAL too, the request's fault) have api_code 5006; too many bytes or pixels SV_ELIMIT, 3006.
 * The file is decoded in a process of its own (base/cage.h), which a broken one may take down. The family itself is sv_media_pictures (media.h). Threads: the model's. */
#ifndef SV_ENGINE_PICTURES_H
#define SV_ENGINE_PICTURES_H

enum { SV_PICTURES_MAX_HITS = 1000 };

#endif
